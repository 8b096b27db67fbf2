"""The last step of the paper's best row: a language model's ratings with the retrieval that they were given for."""

from typing import Literal

import pandas as pd

from pyterrier_radar._interpolate import interpolate, normalised

RetrievalScores = Literal["raw", "zscore", "minmax"]


def fuse_ratings(
    retrieval: pd.DataFrame,
    ratings: pd.DataFrame,
    *,
    weight: float = 0.5,
    depth: int = 100,
    scores: RetrievalScores = "raw",
) -> pd.DataFrame:
    """Ranks the best documents of a retrieval by ``weight · rating + (1 - weight) · retrieval`` (paper §5).

    What is known of the paper's: on BRIGHT's mathematical splits the retrieval score is the raw cosine, for that gives
    every published figure of TheoremQA-theorems to the last digit (nDCG@10 .51561), and neither z-scores (.45579) nor
    min-max (.48466) do. On the other splits it is the hybrid's score, weighted z-scores; no such check is possible
    there.

    Args:
        retrieval: ``qid``, ``docno``, ``score`` and ``rank``; its order breaks ties.
        ratings: ``qid``, ``docno`` and ``score``, the rating / 5. A pair that it lacks counts 0.
        weight: of the rating, from 0 to 1.
        depth: how many documents of each query were rated: only they are ranked.
        scores: the retrieval's scores as they are, or normalised per query over these documents.

    Returns:
        A frame like ``retrieval``, at most ``depth`` documents a query.

    Raises:
        ValueError: a score isn't finite, a pair occurs twice, or an option is wrong.
    """
    top = retrieval[retrieval["rank"] < depth][["qid", "docno", "score", "rank"]]
    rated = top[["qid", "docno"]].merge(ratings[["qid", "docno", "score"]], on=["qid", "docno"], how="left")
    fused = interpolate(_normalised(top, scores), rated.fillna({"score": 0.0}), alpha=1 - weight, normalise=None)
    return fused[["qid", "docno", "score", "rank"]]


def _normalised(frame: pd.DataFrame, scores: RetrievalScores) -> pd.DataFrame:
    if scores == "raw":
        return frame
    if scores == "zscore":
        return frame.assign(score=normalised(frame, "zscore"))
    if scores != "minmax":
        raise ValueError(f"retrieval scores are fused as raw, zscore or minmax, not {scores!r}")
    groups = frame.groupby("qid", sort=False)["score"]
    low, high = groups.transform("min"), groups.transform("max")
    return frame.assign(score=((frame["score"] - low) / (high - low)).where(high > low, 0.0))
