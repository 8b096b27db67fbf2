"""Questions answered by a language model, without documents or with those that a retriever found."""

import importlib.util
import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._llm import URL, LanguageModel, in_own_loop, prompt
from radar_answers import Gold, Verifier, stated_answer
from radar_llm import CallCache, Completion, GenerationError, Request, Sampling, Usage

logger = logging.getLogger(__name__)

ANSWERED, UNPARSABLE, MISSING = STATUSES = ("answered", "unparsable", "missing")
_SAMPLING = Sampling(temperature=0.0, top_p=1.0, top_k=0, max_tokens=2048)
_NAMED = 5  # questions without an answer that the log names


class AnswerQuestions(EqualBySettings, pt.Transformer):
    """Answers questions by a language model, one row a question.

    Over queries the model reads the question alone; over a ranking, also its best documents::

        alone = AnswerQuestions("Qwen/Qwen2.5-7B-Instruct", golds=questions, cache="answers.sqlite")
        informed = retriever % 5 >> dataset.text_loader() >> alone

    ``golds`` are the right answers, a frame of ``qid``, ``gold`` and, if you like, ``gold_type``: ``integer``,
    ``float``, ``list``, ``bool``, ``option`` or ``text``, judged as TheoremQA does (a float is right within 4%);
    ``pyterrier_radar.experiments.read_questions`` reads one. Judging needs the extra ``answers``.

    Columns of the result, beside those of the queries:

    - ``answer``: what stands in the last box of the solution, or after its last "the answer is"; "" where nothing does.
    - ``answer_status``: ``"answered"``; ``"unparsable"``, the solution states no answer; ``"missing"``, the server
      refused the question or failed at it. Those are counted in the log too, the first ones by name and reason.
    - ``solution``: all that the model wrote.
    - ``is_right``: whether the answer is right, where ``golds`` are given; without an answer it is not.

    A query for which nothing was retrieved has no row in a ranking, so it is not answered. Every solution is kept in
    the cache as it comes: a run that was stopped goes on where it was, and a second one asks nothing.
    """

    def __init__(
        self,
        model: str,
        *,
        golds: pd.DataFrame | None = None,
        url: str | Sequence[str] = URL,
        documents: int = 5,
        cache: str | Path | CallCache | None = None,
        seed: int = 0,
        in_flight: int = 96,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 10,
        sampling: Sampling | None = None,
        max_document_chars: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ):
        """Names a model and how it is asked.

        Args:
            model: its name at the server.
            golds: the right answers; where None, nothing is judged.
            url: base URL of a server, or of several that all have the model.
            documents: the most documents of a ranking that the model reads.
            cache: a file that keeps all solutions, or a ``radar_llm.CallCache`` to share; where None, one in memory
                that lives as long as this transformer.
            seed: another one draws other solutions, at a temperature above 0.
            in_flight: the most calls under way at one time on each server.
            api_key: for servers that want one.
            timeout: seconds an attempt may take.
            retries: attempts after the first one.
            sampling: how the model is asked, in place of temperature 0 and 2,048 tokens.
            max_document_chars: characters after which each document is cut; nothing is cut where None.
            text_field: column that holds the text of documents.
            verbose: whether to show progress.

        Raises:
            ValueError: A number or the URL makes no sense, or a right answer isn't of its type; the message names its
                qid.
            ImportError: The extra ``llm`` isn't installed; with ``golds``, the extra ``answers``.
        """
        self.model = model
        self.golds = golds
        self.url = url
        self.documents = documents
        self.cache = cache
        self.seed = seed
        self.in_flight = in_flight
        self._api_key = api_key
        self.timeout = timeout
        self.retries = retries
        self.sampling = sampling
        self.max_document_chars = max_document_chars
        self.text_field = text_field
        self.verbose = verbose
        for name, number in (("documents", documents), ("max_document_chars", max_document_chars)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}: it must be 1 or more")
        self._right = None if golds is None else _right_answers(golds)
        self._alone, self._informed = prompt("answer"), prompt("answer_with_documents")
        self._sampling = sampling or _SAMPLING
        self._language_model = LanguageModel(
            model, url, cache=cache, in_flight=in_flight, api_key=api_key, timeout=timeout, retries=retries
        )

    @property
    def usage(self) -> Usage:
        """Calls made so far, those that the cache answered, and the tokens paid for."""
        return self._language_model.usage

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Answers the questions of a query frame or a result frame; see the class for the columns.

        Raises:
            ValueError: A query is blank, a text missing, a document listed twice for a query, or a question has no
                right answer among those given; the message names the qid or docno. Nothing was asked then.
            radar_llm.ServerError: No call can be answered: no server, a wrong model, a refused key. What was answered
                before is in the cache.
        """
        with pt.validate.any(inp, context=self) as valid:
            valid.result_frame(extra_columns=["query", self.text_field], mode="informed")
            valid.query_frame(extra_columns=["query"], mode="alone")
        if valid.mode == "informed":
            documents = self._best(inp)
            names = set(pt.model.query_columns(inp))
            rows = inp[[name for name in inp.columns if name in names]].drop_duplicates("qid").reset_index(drop=True)
            asked = list(zip(_frames.queries(rows), (documents[qid] for qid in rows["qid"]), strict=True))
        else:
            rows = inp.reset_index(drop=True)
            asked = [(query, "") for query in _frames.queries(rows)]
        golds = None if self._right is None else [self._gold(qid) for qid in rows["qid"]]
        solutions = self._solutions(asked)
        answers = [None if isinstance(one, GenerationError) else stated_answer(one.text) for one in solutions]
        out = rows.assign(
            answer=_strings(answer or "" for answer in answers),
            answer_status=_strings(map(_status, solutions, answers)),
            solution=_strings("" if isinstance(one, GenerationError) else one.text for one in solutions),
        )
        if golds is not None:
            out["is_right"] = pd.Series(judged(golds, answers), dtype=bool)
        if len(out):
            self._report(out, solutions)
        return out

    def _best(self, inp: pd.DataFrame) -> dict[str, str]:
        """Of each query the best documents, as the prompt shows them."""
        _frames.require_distinct(inp)
        frame = _frames.by_rank(inp if "score" in inp.columns else inp.assign(score=0.0))
        best = frame[frame["rank"] < self.documents]
        texts = [text[: self.max_document_chars] for text in _frames.texts(best, self.text_field, "docno")]
        numbered = [f"[{rank + 1}] {text}" for rank, text in zip(best["rank"], texts, strict=True)]
        return pd.Series(numbered, dtype=object).groupby(best["qid"].to_numpy(), sort=False).agg("\n\n".join).to_dict()

    def _gold(self, qid: str) -> Gold:
        assert self._right is not None
        if qid not in self._right:
            raise ValueError(f"qid {qid!r} has no right answer in golds: add it, or drop the question")
        return self._right[qid]

    def _solutions(self, asked: list[tuple[str, str]]) -> list[Completion | GenerationError]:
        if not asked:
            return []

        def request(one: tuple[str, str]) -> Request:
            query, documents = one
            filled = (
                self._informed.fill(query=query, documents=documents) if documents else self._alone.fill(query=query)
            )
            return Request(filled, self._sampling, self.seed)

        return self._language_model.answer(asked, request, label="answering", verbose=self.verbose)

    def _report(self, out: pd.DataFrame, solutions: list[Completion | GenerationError]) -> None:
        """Says in the log how many questions there are of each status, and which ones have no answer."""
        counts = Counter(out["answer_status"])
        without = out["answer_status"] != ANSWERED
        logger.log(
            logging.WARNING if without.any() else logging.INFO,
            "%s answered %d of %d questions; unparsable: %d; missing: %d",
            self.model,
            counts[ANSWERED],
            len(out),
            counts[UNPARSABLE],
            counts[MISSING],
        )
        for place in without.to_numpy().nonzero()[0][:_NAMED]:
            solution = solutions[place]
            reason = solution if isinstance(solution, GenerationError) else f"it ends with {solution.text[-80:]!r}"
            logger.warning("qid %r has no answer: %s", out["qid"].iloc[place], reason)
        if (more := int(without.sum()) - _NAMED) > 0:
            logger.warning("… and %d more: see the column answer_status", more)

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """A label and the settings that say what is done, without the key."""
        settings = {"model": self.model, "documents": self.documents, "seed": self.seed}
        return {"label": "Answer", "settings": settings}

    def __repr__(self) -> str:
        return f"AnswerQuestions({self.model!r}, documents={self.documents})"

    def _settings_key(self) -> Hashable:
        return (
            self._language_model.settings(),
            (self._alone.version, self._informed.version),
            self._sampling,
            self.seed,
            self.documents,
            self.max_document_chars,
            self.text_field,
            None if self._right is None else tuple(self._right.items()),
        )


def judged(golds: Sequence[Gold], answers: Sequence[str | None]) -> list[bool]:
    """Says of each answer whether it is right.

    Raises:
        OSError: math-verify's process cannot be started.
    """
    verdicts: list[bool] = []

    async def judge() -> None:
        async with Verifier() as verifier:
            for gold, answer in zip(golds, answers, strict=True):
                verdicts.append((await gold.check(answer, verifier)).is_right)

    if golds:
        in_own_loop(judge())
    return verdicts


def _right_answers(golds: pd.DataFrame) -> dict[str, Gold]:
    """The right answers by qid.

    Raises:
        ValueError: one isn't of its type, or a qid has two.
        ImportError: what judges answers isn't installed.
    """
    pt.validate.columns(golds, includes=["qid", "gold"])
    if importlib.util.find_spec("math_verify") is None:
        raise ImportError("math-verify is missing, which judges answers: pip install 'pyterrier-radar[answers]'")
    types = golds["gold_type"] if "gold_type" in golds.columns else [None] * len(golds)
    right: dict[str, Gold] = {}
    for qid, value, kind in zip(golds["qid"], golds["gold"], types, strict=True):
        if qid in right:
            raise ValueError(f"qid {qid!r} has two right answers in golds: keep one")
        try:
            right[qid] = Gold.of(value, kind)
        except ValueError as error:
            raise ValueError(f"qid {qid!r}: {error}") from error
    return right


def _status(solution: Completion | GenerationError, answer: str | None) -> str:
    if isinstance(solution, GenerationError):
        return MISSING
    return ANSWERED if answer else UNPARSABLE


def _strings(values: Iterable[str]) -> pd.Series:
    return pd.Series(list(values), dtype="str")
