"""pyterrier-dr compares encoders without their instruction; a tree plan would then use one's results for both."""

import pandas as pd
import pyterrier as pt
import pyterrier_dr
import pytest
from ir_measures import RR, P, nDCG

from pyterrier_radar import RadarBiEncoder, RadarIndex

DOCS = [
    {"docno": "ferry", "text": "The ferry leaves the harbour at noon and returns at night."},
    {"docno": "bread", "text": "To bake bread, mix flour, water and salt and let the dough rest."},
    {"docno": "limit", "text": "A bounded monotone sequence of real numbers has a limit."},
    {"docno": "tax", "text": "Income tax returns are due at the end of April."},
]
TOPICS = pd.DataFrame(
    [("q1", "when does the boat go?"), ("q2", "does this increasing sequence converge?")], columns=["qid", "query"]
)
QRELS = pd.DataFrame([("q1", "ferry", 1), ("q2", "limit", 1)], columns=["qid", "docno", "label"])
# Far from what the queries are about, so that the results differ visibly.
MISLEADING = "baking bread with flour, water, salt and dough; mix the dough and let the bread rest: "


@pytest.fixture
def encoders():
    return RadarBiEncoder(), RadarBiEncoder(instruction=MISLEADING)


@pytest.fixture
def index(tmp_path, encoders):
    return RadarIndex(tmp_path / "docs.radar", encoders[0]).index(DOCS)


def pipelines_over(index, encoders):
    texts = pd.DataFrame(DOCS)
    candidates = pt.apply.generic(lambda topics: pt.model.add_ranks(topics.merge(texts, how="cross").assign(score=0)))
    flex = index.flex()
    return {
        "query_encoder": [encoder.query_encoder() >> flex.np_retriever() for encoder in encoders],
        "bi-encoder": [encoder >> index.retriever() for encoder in encoders],
        "text_scorer": [candidates >> encoder.text_scorer() for encoder in encoders],
        "index": [RadarIndex(index.path, encoder).retriever() for encoder in encoders],
    }


@pytest.mark.parametrize("kind", ["query_encoder", "bi-encoder", "text_scorer", "index"])
def test_two_instructions_give_two_results_each_as_if_run_alone(index, encoders, kind):
    pipelines = pipelines_over(index, encoders)[kind]
    measures = [nDCG @ 10, RR, P @ 1]
    together = pt.Experiment(pipelines, TOPICS, QRELS, measures, plan="tree", verbose=False)
    alone = pd.concat([pt.Experiment([p], TOPICS, QRELS, measures) for p in pipelines], ignore_index=True)
    columns = [str(measure) for measure in measures]
    assert together[columns].values.tolist() == alone[columns].values.tolist()
    assert together["RR"][0] == 1.0
    assert together["RR"][1] < 1.0


def test_pyterrier_dr_s_own_equality_would_have_failed(index, encoders):
    ours = [encoder.query_encoder() for encoder in encoders]
    theirs = [pyterrier_dr.BiQueryEncoder(encoder) for encoder in encoders]
    assert ours[0] != ours[1]
    assert theirs[0] == theirs[1]
    flex = index.flex()
    # Equal pipelines can't be compared in one experiment; cutoffs at 3 and 4 tell these two apart.
    systems = [encoder >> flex.np_retriever(num_results=k) for k, encoder in zip((4, 3), theirs, strict=True)]
    wrong = pt.Experiment(systems, TOPICS, QRELS, [RR], plan="tree", verbose=False)
    right = pt.Experiment(systems, TOPICS, QRELS, [RR])
    assert wrong["RR"].tolist() == [1.0, 1.0]
    assert right["RR"][1] < 1.0


def test_equal_encoders_are_merged_and_run_once(index, monkeypatch):
    one, same = RadarBiEncoder(), RadarBiEncoder(verbose=False, batch_tokens=512)
    runs = []
    for encoder in (one, same):
        original = encoder.encoder.encode_queries
        monkeypatch.setattr(
            encoder.encoder, "encode_queries", lambda texts, run=original: runs.append(len(texts)) or run(texts)
        )
    systems = [encoder.query_encoder() >> index.retriever(k) for encoder, k in ((one, 2), (same, 3))]
    pt.Experiment(systems, TOPICS, QRELS, [RR], plan="tree", verbose=False)
    assert runs == [2]
