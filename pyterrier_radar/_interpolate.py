"""Interpolation of two rankings: ``alpha * first + (1 - alpha) * second``, on z-scores or raw scores."""

from collections.abc import Hashable, Sequence
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings

Normalisation = Literal["zscore"] | None

_PAIR = ["qid", "docno"]


class Interpolate(EqualBySettings, pt.Transformer):
    """Runs two pipelines on the same input and interpolates their scores with :func:`interpolate`.

    The hybrid of the RaDeR paper is ``Interpolate(dense, bm25, alpha=0.8)`` on the non-mathematical BRIGHT
    splits; its rating step is ``Interpolate(rating, dense, alpha=0.5, normalise=None)``.

    A side of weight 0 isn't run. No rank cutoff is pushed into the two pipelines: a z-score depends on the
    whole list.
    """

    schematic = {"label": "Interpolate", "inner_pipelines_mode": "linked"}

    def __init__(
        self,
        first: pt.Transformer,
        second: pt.Transformer,
        *,
        alpha: float = 0.8,
        normalise: Normalisation = "zscore",
    ):
        """Combines two retrieval or reranking pipelines.

        Args:
            first: pipeline weighted ``alpha``; its order breaks ties.
            second: pipeline weighted ``1 - alpha``.
            alpha: weight of ``first``, from 0 to 1.
            normalise: ``"zscore"`` for z-scores per query over each list, ``None`` for raw scores.

        Raises:
            ValueError: ``alpha`` or ``normalise`` is none of these.
        """
        _check_options(alpha, normalise)
        self.first = first
        self.second = second
        self.alpha = alpha
        self.normalise = normalise

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the documents that either pipeline returns; see :func:`interpolate`."""
        if self.alpha == 1:
            return in_order(self.first(inp), "first")
        if self.alpha == 0:
            return in_order(self.second(inp), "second")
        return interpolate(self.first(inp), self.second(inp), alpha=self.alpha, normalise=self.normalise)

    def transform_inputs(self) -> list[list[str]]:
        """Column lists that both pipelines accept."""
        choices = product(pt.inspect.transformer_inputs(self.first), pt.inspect.transformer_inputs(self.second))
        unions = dict.fromkeys(tuple(dict.fromkeys([*one, *other])) for one, other in choices)
        # A side that passes its input through needs the scores of an earlier stage.
        with_score = [(*columns, "score") for columns in unions if "score" not in columns]
        return [
            list(columns)
            for columns in [*unions, *with_score]
            if pt.inspect.transformer_outputs(self, list(columns), strict=False) is not None
        ]

    def compile(self) -> "Interpolate":
        """Compiles the two pipelines, each on its own."""
        return Interpolate(self.first.compile(), self.second.compile(), alpha=self.alpha, normalise=self.normalise)

    def __repr__(self) -> str:
        return f"Interpolate({self.first!r}, {self.second!r}, alpha={self.alpha}, normalise={self.normalise!r})"

    def _settings_key(self) -> Hashable:
        return (self.first, self.second, self.alpha, self.normalise)


def interpolate(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    alpha: float = 0.8,
    normalise: Normalisation = "zscore",
) -> pd.DataFrame:
    """Interpolates two result frames: ``alpha * first + (1 - alpha) * second`` per query and document.

    A z-score is ``(s - mean) / std`` over the scores of one query in one list (population standard
    deviation; all zero where every score is the same). A document that a list lacks counts 0 there: the
    mean of that list after z-scoring, nothing at all on raw scores. With a weight of 0 on one side nothing
    is interpolated: the other ranking comes back with its own scores.

    Equal scores keep the order of ``first``. Evaluation tools that read scores alone (``trec_eval`` and what
    wraps it) order equal scores by docno; where it matters, evaluate ``frame.assign(score=-frame["rank"])``.

    Args:
        first: frame with ``qid``, ``docno``, ``score`` and any other columns, weighted ``alpha``.
        second: the same, weighted ``1 - alpha``.
        alpha: weight of ``first``, from 0 to 1.
        normalise: ``"zscore"`` or ``None`` for raw scores.

    Returns:
        A new frame with the columns of both, sorted by query (in order of first appearance) and rank. Where
        both have a value in another column, the value of ``first`` stays.

    Raises:
        ValueError: A score isn't finite, a document is listed twice for a query, or an option is wrong.
    """
    _check_options(alpha, normalise)
    first, second = in_order(first, "first"), in_order(second, "second")
    if alpha == 1:
        return first
    if alpha == 0:
        return second
    return summed(
        [
            first.assign(score=alpha * normalised(first, normalise)),
            second.assign(score=(1 - alpha) * normalised(second, normalise)),
        ]
    )


def summed(rankings: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One ranking by the sum of the scores that each document has in several, given as :func:`in_order` gives them.

    Equal sums keep the order of the first ranking, then that of the next. Where several have a value in another
    column, the first one's stays.
    """
    every = pd.concat(rankings, ignore_index=True).drop(columns="rank")
    for column in pt.model.query_columns(every, qid=False):
        # What one side knows of a query (its text, its vector) holds for the documents of the other sides too.
        every[column] = every.groupby("qid", sort=False)[column].transform("first")
    how = {column: "sum" if column == "score" else "first" for column in every.columns.difference(_PAIR, sort=False)}
    # Groups keep the order of first appearance: that of the first ranking, then what only the next ones have.
    return _frames.by_rank(every.groupby(_PAIR, sort=False, as_index=False).agg(how)[list(every.columns)])


def _check_options(alpha: float, normalise: Normalisation) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the weight of the first ranking, from 0 to 1, not {alpha}")
    if normalise not in ("zscore", None):
        raise ValueError(f"normalise is 'zscore' or None, not {normalise!r}")


def in_order(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    """The ranking of one side, checked, sorted by query and rank, with float64 scores.

    Raises:
        ValueError: A score isn't finite, or a document is listed twice for a query; the message names the side.
    """
    pt.validate.result_frame(frame, extra_columns=["score"])
    frame = frame.assign(score=frame["score"].astype("float64"))
    if len(bad := frame[~np.isfinite(frame["score"])]):
        qid, docno, score = bad.iloc[0][[*_PAIR, "score"]]
        raise ValueError(
            f"the {side} ranking gives docno {docno!r} of qid {qid!r} the score {score}: scores to fuse must be finite"
        )
    if len(twice := frame[frame.duplicated(_PAIR)]):
        qid, docno = twice.iloc[0][_PAIR]
        raise ValueError(f"the {side} ranking lists docno {docno!r} of qid {qid!r} twice: drop the duplicate")
    return _frames.by_rank(frame)


def normalised(frame: pd.DataFrame, normalise: Normalisation) -> pd.Series:
    if normalise is None:
        return frame["score"]
    groups = frame.groupby("qid", sort=False)["score"]
    z = (frame["score"] - groups.transform("mean")) / groups.transform("std", ddof=0)
    # Equal scores are told by the extremes: rounding can leave a standard deviation just above zero.
    return z.where(groups.transform("max") > groups.transform("min"), 0.0)
