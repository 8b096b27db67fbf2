"""Reciprocal rank fusion: rankings whose scores have nothing in common, fused by rank alone.

pyterrier-alpha has one too, but it keeps no column other than the query (a reranker behind it would find no text),
counts ranks from 0 and orders equal scores by docno.
"""

from collections.abc import Hashable

import pandas as pd
import pyterrier as pt

from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._interpolate import in_order, summed


class ReciprocalRankFusion(EqualBySettings, pt.Transformer):
    """Runs pipelines on the same input and fuses what they return with :func:`reciprocal_rank_fusion`.

    ::

        ReciprocalRankFusion(bm25 % 100, index.retriever() % 100) >> dataset.text_loader() >> RadarReranker()

    No rank cutoff is pushed into the pipelines: how many documents each contributes is a choice of its own.
    """

    schematic = {"label": "RRF", "inner_pipelines_mode": "combine"}

    def __init__(self, *pipelines: pt.Transformer, k: float = 60):
        """Fuses retrieval or reranking pipelines.

        Args:
            pipelines: at least one; the order of earlier ones breaks ties.
            k: how little the first ranks stand out; 60 in the paper.

        Raises:
            ValueError: There is no pipeline, or ``k`` is negative.
        """
        _check(len(pipelines), k)
        self.pipelines = pipelines
        self.k = k

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Ranks the documents that any pipeline returns."""
        return reciprocal_rank_fusion(*[pipeline(inp) for pipeline in self.pipelines], k=self.k)

    def compile(self) -> "ReciprocalRankFusion":
        """Compiles the pipelines, each on its own."""
        return ReciprocalRankFusion(*[pipeline.compile() for pipeline in self.pipelines], k=self.k)

    def __repr__(self) -> str:
        return f"ReciprocalRankFusion({', '.join(map(repr, self.pipelines))}, k={self.k})"

    def _settings_key(self) -> Hashable:
        return (self.pipelines, self.k)


def reciprocal_rank_fusion(*frames: pd.DataFrame, k: float = 60) -> pd.DataFrame:
    """Fuses result frames: a document's score is the sum of ``1 / (k + rank)``, ranks counted from 1.

    A ranking that lacks a document adds nothing to it. Ranks are those of the scores, ties in the order of the
    frame's own ranks.

    .. cite.dblp:: conf/sigir/CormackCB09

    Args:
        frames: at least one, with ``qid``, ``docno``, ``score`` and any other columns.
        k: how little the first ranks stand out; 60 in the paper.

    Returns:
        A new frame with the columns of all, sorted by query (in order of first appearance) and rank. Equal scores
        keep the order of the first frame, then of the next; where several have a value in another column, the first
        one's stays.

    Raises:
        ValueError: A score isn't finite, a document is listed twice for a query, there is no frame, or ``k`` is
            negative.
    """
    _check(len(frames), k)
    rankings = [in_order(frame, f"{place}.") for place, frame in enumerate(frames, start=1)]
    return summed([ranking.assign(score=1 / (k + 1 + ranking["rank"])) for ranking in rankings])


def _check(count: int, k: float) -> None:
    if not count:
        raise ValueError("give at least one ranking to fuse")
    if not k >= 0:
        raise ValueError(f"k must be 0 or more, not {k}")
