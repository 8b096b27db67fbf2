"""Relevance ratings from 0 to 5 by a language model, one (query, document) pair a call (paper §5)."""

import logging
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._families import RATING_FAMILIES
from pyterrier_radar._llm import URL, LanguageModel, prompt
from radar_llm import CallCache, Completion, GenerationError, Request, Sampling, Template, Usage

logger = logging.getLogger(__name__)

UNPARSABLE_SCORE, MISSING_SCORE = -1.0, 0.0
"""What the paper's fusion counts for an answer that holds no rating, and where there is no answer."""

_HIGHEST = 5
_NAMED = 5  # pairs without a rating that the log names
# How the paper asks, and how the model's own probabilities of the six digits are seen undistorted.
_SAMPLING = Sampling(temperature=0.6, top_p=0.9, top_k=0, max_tokens=32)
_UNDISTORTED = replace(_SAMPLING, temperature=1.0, top_p=1.0)
_ANSWER_FORM = f"Answer with one line, `Relevance score: X`, where X is a whole number from 0 to {_HIGHEST}."
_DIGIT_FORM = f"Answer with one digit from 0 to {_HIGHEST} and nothing else."
# "Relevance score: 4", "**Relevance score:** 4/5"; neither "0 to 5" nor "10" nor "-1". Or the digit is all there is.
_AROUND = r"[^\w\s.+–−-]*"
_SCORE = re.compile(
    rf"relevance\s+score\s*{_AROUND}\s*{_AROUND}([0-5](?:\.\d+)?)(?!\d|\.\d|\s*(?:-|–|to\b)\s*\d)", re.IGNORECASE
)
_DIGIT = re.compile(rf"\s*{_AROUND}([0-5])(?:\s*/\s*5)?[\W_]*")


def parse_rating(text: str) -> float | None:
    """Returns the rating that an answer gives, 0 to 5; None if it gives none."""
    found = _SCORE.search(text) or _DIGIT.fullmatch(text)
    rating = float(found[1]) if found else None
    return rating if rating is not None and rating <= _HIGHEST else None


class RatingReranker(EqualBySettings, pt.Transformer):
    """Reranks by a language model's rating of each (query, document) pair, from 0 to 5 (paper §5).

    The model is any behind the OpenAI protocol; the paper's is Qwen2.5-32B-Instruct, over the best 100 documents::

        rating = RatingReranker("Qwen/Qwen2.5-32B-Instruct", family="theoremqa_theorems", cache="ratings.sqlite")
        rated = dense % 100 >> dataset.text_loader() >> rating
        final = Interpolate(rated, dense % 100, alpha=0.5, normalise=None)

    Every answer is kept in the cache as it comes: a run that was stopped in any way goes on where it was, and a
    second one asks nothing. Equal pairs are rated once.

    Columns of the result, which is sorted by query and rank:

    - ``rating``: the rating, NaN where there is none.
    - ``rating_status``: ``"rated"``; ``"unparsable"``, the answer gives no rating; ``"missing"``, there is no answer,
      since the server refused the pair (one too long for its context) or failed at it. Those pairs are also counted
      in the log, the first ones by name and reason.
    - ``score``: ``rating / 5``; -1 for unparsable and 0 for missing ones, as in the paper's fusion.
    - ``retrieval_score``: what ``score`` was before, if anything.
    - ``rank``: equal scores keep the order of the input: by its ``score``, then its ``rank``, then its rows. Evaluation
      tools read scores alone and order equal ones by docno; where it matters, evaluate
      ``frame.assign(score=-frame["rank"])``.

    .. cite.dblp:: journals/corr/abs-2505-18405
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | Sequence[str] = URL,
        family: str | Template = "general",
        expected: bool = False,
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
            url: base URL of a server, or of several that all have the model.
            family: the prompt, by task: ``"general"``, ``"aops"``, ``"theoremqa_questions"``,
                ``"theoremqa_theorems"``, ``"leetcode"`` or ``"pony"`` (``RATING_FAMILIES`` names each BRIGHT split's);
                or a ``radar_llm.Template`` of your own with ``{{query}}`` and ``{{document}}``, and ``{{answer_form}}``
                where the form of the answer is to be said.
            expected: whether to ask for one digit and take the expectation over the probabilities of the six, for
                ratings between the whole numbers. Of a server that tells no probabilities the digit itself is taken.
            cache: a file that keeps all answers, or a ``radar_llm.CallCache`` to share; where None, one in memory that
                lives as long as this transformer.
            seed: another one draws other answers.
            in_flight: the most calls under way at one time on each server.
            api_key: for servers that want one.
            timeout: seconds an attempt may take.
            retries: attempts after the first one.
            sampling: how the model is asked, in place of the paper's temperature 0.6, top-p 0.9 and 32 tokens.
            max_document_chars: characters after which documents are cut, for models with a short context. Nothing is
                cut where None. ``SlidingWindows(…) >> rating >> MaxPassage()`` rates all of a long document instead.
            text_field: column that holds the text of documents.
            verbose: whether to show progress.

        Raises:
            ValueError: The family is unknown, or a number or the URL makes no sense.
            ImportError: The extra ``llm`` isn't installed.
        """
        self.model = model
        self.url = url
        self.family = family
        self.expected = expected
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
        if max_document_chars is not None and max_document_chars < 1:
            raise ValueError(f"max_document_chars is {max_document_chars}: it must be 1 or more")
        self._template = _template(family)
        self._sampling = sampling or (_UNDISTORTED if expected else _SAMPLING)
        if expected:
            digits = tuple(str(rating) for rating in range(_HIGHEST + 1))
            self._sampling = replace(self._sampling, choice=digits, logprobs=20)
        self._language_model = LanguageModel(
            model, url, cache=cache, in_flight=in_flight, api_key=api_key, timeout=timeout, retries=retries
        )

    @property
    def usage(self) -> Usage:
        """Calls made so far, those that the cache answered, and the tokens paid for."""
        return self._language_model.usage

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Rates every row of a result frame; see the class for the columns.

        Raises:
            ValueError: A query is blank, a text missing, or a document listed twice for a query; the message names the
                qid or docno. Nothing was asked then.
            radar_llm.ServerError: No call can be answered: no server, a wrong model, a refused key. What was answered
                before is in the cache.
        """
        pt.validate.result_frame(inp, extra_columns=["query", self.text_field], context=self)
        _frames.require_distinct(inp)
        frame = _frames.by_rank(inp if "score" in inp.columns else inp.assign(score=0.0))
        documents = [text[: self.max_document_chars] for text in _frames.texts(frame, self.text_field, "docno")]
        pairs, places = _frames.distinct(zip(_frames.queries(frame), documents, strict=True))
        answers = self._answers(pairs)
        read = [self._read(answer) for answer in answers]
        ratings = [read[place][0] for place in places]
        statuses = [read[place][1] for place in places]
        fixed = {"unparsable": UNPARSABLE_SCORE, "missing": MISSING_SCORE}
        scores = [fixed.get(status, rating / _HIGHEST) for rating, status in zip(ratings, statuses, strict=True)]
        rated = frame.assign(rating=pd.Series(ratings, dtype="float64"), rating_status=pd.Series(statuses, dtype="str"))
        if "score" in inp.columns:
            rated["retrieval_score"] = frame["score"]
        if len(rated):
            self._report(rated, [answers[place] for place in places])
        return _frames.by_rank(rated.assign(score=pd.Series(scores, dtype="float64")).drop(columns="rank"))

    def _answers(self, pairs: list[tuple[str, str]]) -> list[Completion | GenerationError]:
        if not pairs:
            return []
        values = {"answer_form": _DIGIT_FORM if self.expected else _ANSWER_FORM}
        values = values if "{{answer_form}}" in self._template.last else {}

        def request(pair: tuple[str, str]) -> Request:
            query, document = pair
            return Request(self._template.fill(query=query, document=document, **values), self._sampling, self.seed)

        return self._language_model.answer(
            pairs, request, route=lambda pair: pair[0], label="rating", verbose=self.verbose
        )

    def _read(self, answer: Completion | GenerationError) -> tuple[float, str]:
        """The rating of an answer, and its status."""
        if isinstance(answer, GenerationError):
            return float("nan"), "missing"
        if self.expected and answer.choice_probabilities is not None:
            return sum(int(digit) * share for digit, share in answer.choice_probabilities.items()), "rated"
        rating = parse_rating(answer.text)
        return (float("nan"), "unparsable") if rating is None else (rating, "rated")

    def _report(self, frame: pd.DataFrame, answers: list[Completion | GenerationError]) -> None:
        """Says in the log how many pairs there are of each status, and which ones have no rating."""
        counts = Counter(frame["rating_status"])
        without = frame["rating_status"] != "rated"
        logger.log(
            logging.WARNING if without.any() else logging.INFO,
            "%s rated %d of %d pairs; unparsable: %d, counted as %g; missing: %d, counted as %g",
            self.model,
            counts["rated"],
            len(frame),
            counts["unparsable"],
            UNPARSABLE_SCORE,
            counts["missing"],
            MISSING_SCORE,
        )
        for place in without.to_numpy().nonzero()[0][:_NAMED]:
            qid, docno = frame[["qid", "docno"]].iloc[place]
            answer = answers[place]
            reason = answer if isinstance(answer, GenerationError) else f"it answered {answer.text[:80]!r}"
            logger.warning("qid %r with docno %r has no rating: %s", qid, docno, reason)
        if (more := int(without.sum()) - _NAMED) > 0:
            logger.warning("… and %d more: see the column rating_status", more)

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """A label and the settings that say what is done, without the key."""
        settings = {"model": self.model, "family": self._template.name, "expected": self.expected, "seed": self.seed}
        return {"label": "Rating", "settings": settings}

    def __repr__(self) -> str:
        return f"RatingReranker({self.model!r}, family={self._template.name!r}, expected={self.expected})"

    def _settings_key(self) -> Hashable:
        return (
            self._language_model.settings(),
            (self._template.name, self._template.version),
            self._sampling,
            self.expected,
            self.seed,
            self.max_document_chars,
            self.text_field,
        )


def _template(family: str | Template) -> Template:
    if not isinstance(family, Template):
        known = sorted(set(RATING_FAMILIES.values()))
        if family not in known:
            raise ValueError(
                f"there is no prompt family {family!r}: name one of {', '.join(known)}, or give a Template"
            )
        return prompt(f"rating_{family}")
    if missing := [name for name in ("query", "document") if f"{{{{{name}}}}}" not in family.last]:
        raise ValueError(f"prompt {family.name} has no {{{{{missing[0]}}}}} in its last message")
    return family
