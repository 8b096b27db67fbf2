"""The paper's own ratings, asked of a server one by one, give the paper's figure."""

import gzip
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import ir_measures
import pandas as pd
import pyterrier as pt
import pytest
from ir_measures import nDCG

from pyterrier_radar import RATING_FAMILIES, Interpolate, RatingReranker
from tests.synthesis import solver
from tests.synthesis.parts import served

DATA = Path(os.environ.get("RADAR_DATA", Path(__file__).parents[3] / "shared" / "data")) / "bright"


@dataclass(frozen=True)
class Published(solver.Mind):
    """Rates as the published run did."""

    ratings: dict[str, dict[str, float]] = field(default_factory=dict)

    def _rating(self, asked):
        return f"Relevance score: {5 * self.ratings[asked.problem][asked.theorem]:.0f}"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the published run, ratings and qrels of TheoremQA-T in {DATA}")
def test_with_the_papers_ratings_the_whole_pipeline_gives_its_figure():
    """Retrieve 100, ask for 7,600 ratings, interpolate: nDCG@10 .51561."""

    def published(name):
        with gzip.open(DATA / f"rader-gte.theoremqa-theorems.{name}.json.gz", "rt") as file:
            return json.load(file)

    scores = published("retrieval")
    run = pd.DataFrame(
        [(qid, docno, score) for qid, found in scores.items() for docno, score in found.items()],
        columns=["qid", "docno", "score"],
    )
    run = pt.model.add_ranks(run.assign(query=run["qid"], text=run["docno"]))
    topics = run[["qid", "query"]].drop_duplicates()
    top = pt.Transformer.from_df(run) % 100
    with served(Published(ratings=published("ratings"))) as server:
        rating = RatingReranker("solver", url=server.url, family=RATING_FAMILIES["theoremqa_theorems"])
        final = Interpolate(top >> rating, top, alpha=0.5, normalise=None)(topics)
    assert rating.usage.calls == 7600
    qrels = pd.read_csv(
        DATA / "qrels.theoremqa-theorems.txt", sep=r"\s+", names=["qid", "iteration", "docno", "label"], dtype="str"
    ).astype({"label": int})
    # trec_eval orders equal scores by docno; descending ranks keep the order that the pipeline gave.
    ranked = pt.model.to_ir_measures(final.assign(score=-final["rank"].astype(float)))
    found = ir_measures.calc_aggregate([nDCG @ 10], pt.model.to_ir_measures(qrels), ranked)
    assert round(found[nDCG @ 10], 5) == 0.51561
