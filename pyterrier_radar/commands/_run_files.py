"""``radar evaluate`` on run files: the fusion of finished rankings, without a model or a document."""

from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_radar._exclude import EXCLUDED_LABEL, ExcludeDocuments
from pyterrier_radar._fuse import RetrievalScores, fuse_ratings
from pyterrier_radar._interpolate import interpolate
from pyterrier_radar._trec import read_run, write_run
from pyterrier_radar.commands._measures import per_query


def evaluate_run_files(
    qrels: pd.DataFrame,
    measures: list[Any],
    retrieval: Path,
    *,
    bm25: Path | None = None,
    ratings: Path | None = None,
    alpha: float = 0.8,
    depth: int = 100,
    weight: float = 0.5,
    scores: RetrievalScores = "raw",
    keep: Path | None = None,
) -> dict[str, Any]:
    """Measures a retrieval run, its hybrid with a BM25 run, and its fusion with ratings.

    Documents judged -100 are taken out of every run first.

    Args:
        qrels: the judgements.
        measures: what to measure.
        retrieval: the run of the dense retriever, or of a hybrid made elsewhere.
        bm25: a run to interpolate with it (z-scores).
        ratings: ratings / 5 of the best documents of the retrieval, or of its hybrid where there is a BM25 run.
        alpha: weight of the retrieval in the hybrid.
        depth: how many documents are fused with ratings.
        weight: of the rating.
        scores: how the retrieval's scores are fused.
        keep: a folder for the fused runs.

    Returns:
        the report: the mean of each measure by system.
    """
    exclude = ExcludeDocuments(qrels)
    qrels = qrels[qrels["label"] > EXCLUDED_LABEL]
    rankings = {"retrieval": _read(retrieval, qrels, exclude)}
    best, facts = "retrieval", {}
    if bm25 is not None:
        rankings["bm25"] = _read(bm25, qrels, exclude)
        rankings["hybrid"] = interpolate(rankings["retrieval"], rankings["bm25"], alpha=alpha)
        best = "hybrid"
    if ratings is not None:
        rated = _read_ratings(ratings, qrels, exclude)
        facts = _count(rankings[best], rated, depth)
        rankings["rated"] = fuse_ratings(rankings[best], rated, weight=weight, depth=depth, scores=scores)
    if keep is not None:
        _keep(rankings, keep)
    rows: dict[str, dict[str, Any]] = {}
    for system, frame in rankings.items():
        values = per_query(frame, qrels, measures)
        rows[system] = {"measures": {measure: float(values[measure].mean()) for measure in values}}
        if system == "rated":
            rows[system]["ratings"] = facts
    return {
        "retrieval_run": str(retrieval),
        "bm25_run": str(bm25) if bm25 else None,
        "ratings": str(ratings) if ratings else None,
        "queries": int(qrels["qid"].nunique()),
        "alpha": alpha,
        "rating_depth": depth,
        "rating_weight": weight,
        "retrieval_scores": scores,
        "systems": rows,
    }


def run_files_as_text(report: dict[str, Any]) -> str:
    """Lays the report out: five digits, as published figures have."""
    names = list(next(iter(report["systems"].values()))["measures"])
    rows = [["system", *names]]
    rows += [[system, *(f"{row['measures'][n]:.5f}" for n in names)] for system, row in report["systems"].items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"{report['queries']} queries")
    if facts := report["systems"].get("rated", {}).get("ratings"):
        lines.append("ratings: " + ", ".join(f"{count} {what}" for what, count in facts.items()))
    return "\n".join(lines)


def _read(path: Path, qrels: pd.DataFrame, exclude: ExcludeDocuments) -> pd.DataFrame:
    run = read_run(path)
    judged = set(qrels["qid"])
    if not judged & set(run["qid"]):
        raise ValueError(f"{path} ranks for no judged query: do the qids of run and judgements agree?")
    return exclude(run[run["qid"].isin(judged)])


def _read_ratings(path: Path, qrels: pd.DataFrame, exclude: ExcludeDocuments) -> pd.DataFrame:
    ratings = _read(path, qrels, exclude)
    if len(bad := ratings[ratings["score"].abs() > 1]):
        qid, docno, score = bad.iloc[0][["qid", "docno", "score"]]
        raise ValueError(f"{path} gives docno {docno!r} of qid {qid!r} the rating {score:g}: write ratings / 5")
    return ratings


def _count(retrieval: pd.DataFrame, ratings: pd.DataFrame, depth: int) -> dict[str, int]:
    """How many of the documents to be fused are rated, how many answers gave no rating (-1), how many are missing."""
    top = retrieval.loc[retrieval["rank"] < depth, ["qid", "docno"]]
    scores = top.merge(ratings[["qid", "docno", "score"]], on=["qid", "docno"], how="left")["score"]
    return {
        "rated": int((scores >= 0).sum()),
        "unparsable": int((scores < 0).sum()),
        "missing": int(scores.isna().sum()),
    }


def _keep(rankings: dict[str, pd.DataFrame], folder: Path) -> None:
    for system in ("hybrid", "rated"):
        if system in rankings:
            write_run(rankings[system], folder / f"{system}.run.gz", name=f"radar-{system}")
