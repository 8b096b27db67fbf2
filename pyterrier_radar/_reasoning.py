"""Queries rewritten into reasoning by a language model, as BRIGHT's reasoning queries are."""

import logging
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._llm import URL, LanguageModel, prompt
from radar_llm import CallCache, Completion, GenerationError, Request, Sampling, Usage

logger = logging.getLogger(__name__)

_SAMPLING = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=1024)
_NAMED = 5  # queries that could not be rewritten that the log names


class ReasoningQuery(EqualBySettings, pt.Transformer):
    """Replaces a query by step-by-step reasoning about what would answer it.

    What BRIGHT's ``gpt4_reason`` queries are for its own splits, this makes for any collection::

        reasoning = ReasoningQuery("Qwen/Qwen2.5-32B-Instruct", cache="reasoning.sqlite")
        reasoning >> bm25
        reasoning >> dense % 100 >> pt.rewrite.reset() >> reranker  # the reranker reads the user's words again

    ``query_0`` is the query as it was. One that the model cannot rewrite (its answer is blank, or the server refuses
    it) stays as it is; such queries are counted in the log, the first ones by name and reason. Every answer is kept in
    the cache as it comes, and equal queries are rewritten once.

    .. cite.dblp:: journals/corr/abs-2505-18405
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | Sequence[str] = URL,
        cache: str | Path | CallCache | None = None,
        seed: int = 0,
        in_flight: int = 96,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 10,
        sampling: Sampling | None = None,
        verbose: bool = False,
    ):
        """Names a model and how it is asked.

        Args:
            model: its name at the server.
            url: base URL of a server, or of several that all have the model.
            cache: a file that keeps all answers, or a ``radar_llm.CallCache`` to share; where None, one in memory that
                lives as long as this transformer.
            seed: another one draws other answers, at a temperature above 0.
            in_flight: the most calls under way at one time on each server.
            api_key: for servers that want one.
            timeout: seconds an attempt may take.
            retries: attempts after the first one.
            sampling: how the model is asked, in place of temperature 0 and 1,024 tokens.
            verbose: whether to show progress.

        Raises:
            ValueError: A number or the URL makes no sense.
            ImportError: The extra ``llm`` isn't installed.
        """
        self.model = model
        self.url = url
        self.cache = cache
        self.seed = seed
        self.in_flight = in_flight
        self._api_key = api_key
        self.timeout = timeout
        self.retries = retries
        self.sampling = sampling
        self.verbose = verbose
        self._template = prompt("reasoning")
        self._sampling = sampling or _SAMPLING
        self._language_model = LanguageModel(
            model, url, cache=cache, in_flight=in_flight, api_key=api_key, timeout=timeout, retries=retries
        )

    @property
    def usage(self) -> Usage:
        """Calls made so far, those that the cache answered, and the tokens paid for."""
        return self._language_model.usage

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Rewrites ``query``; the old one becomes ``query_0``.

        Raises:
            ValueError: A query is missing or blank; the message names its qid. Nothing was asked then.
            radar_llm.ServerError: No call can be answered: no server, a wrong model, a refused key. What was answered
                before is in the cache.
        """
        pt.validate.columns(inp, includes=["qid", "query"], context=self)
        queries, places = _frames.distinct(_frames.queries(inp))
        answers = self._answers(queries)
        rewritten = [_reasoning(answer) or query for answer, query in zip(answers, queries, strict=True)]
        self._report(inp, places, answers)
        pushed = pt.model.push_queries(inp, keep_original=True)
        return pushed.assign(query=pd.Series([rewritten[place] for place in places], index=inp.index, dtype="str"))

    def _answers(self, queries: list[str]) -> list[Completion | GenerationError]:
        if not queries:
            return []

        def request(query: str) -> Request:
            return Request(self._template.fill(query=query), self._sampling, self.seed)

        return self._language_model.answer(queries, request, label="reasoning", verbose=self.verbose)

    def _report(self, inp: pd.DataFrame, places: Iterable[int], answers: list[Completion | GenerationError]) -> None:
        """Says in the log which queries keep their own words, and how many are cut off."""
        qids: dict[int, str] = {}
        for qid, place in zip(inp["qid"], places, strict=True):
            qids.setdefault(place, qid)
        failed = [place for place, answer in enumerate(answers) if not _reasoning(answer)]
        if failed:
            logger.warning("%s rewrote %d of %d queries", self.model, len(answers) - len(failed), len(answers))
        for place in failed[:_NAMED]:
            answer = answers[place]
            reason = answer if isinstance(answer, GenerationError) else "the answer is blank"
            logger.warning("qid %r keeps its own words: %s", qids[place], reason)
        if len(failed) > _NAMED:
            logger.warning("… and %d more, whose query equals query_0", len(failed) - _NAMED)
        cut = sum(isinstance(answer, Completion) and answer.finish_reason == "length" for answer in answers)
        if cut:
            logger.warning("%d rewritten queries end at %d tokens, cut off", cut, self._sampling.max_tokens)

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """A label and the settings that say what is done, without the key."""
        return {"label": "ReasoningQuery", "settings": {"model": self.model, "seed": self.seed}}

    def __repr__(self) -> str:
        return f"ReasoningQuery({self.model!r})"

    def _settings_key(self) -> Hashable:
        return (self._language_model.settings(), self._template.version, self._sampling, self.seed)


def _reasoning(answer: Completion | GenerationError) -> str:
    """What an answer says; "" if it is none."""
    return "" if isinstance(answer, GenerationError) else answer.text.strip()
