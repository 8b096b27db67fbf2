import gzip
import json
import os
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, P, R, nDCG
from pandas.testing import assert_frame_equal

from pyterrier_radar import ExcludeDocuments, Interpolate, interpolate


def ranking(scores, qid="q", **columns):
    frame = pd.DataFrame({"qid": qid, "docno": list(scores), "score": list(scores.values())}).assign(**columns)
    return pt.model.add_ranks(frame)


def scores_of(frame, qid="q"):
    return dict(frame[frame["qid"] == qid][["docno", "score"]].itertuples(index=False, name=None))


def reference_zscores(scores):
    """Float64, one list: (s - mean) / population standard deviation."""
    values = np.array(list(scores.values()), dtype=np.float64)
    spread = np.sqrt(((values - values.mean()) ** 2).mean()) if values.max() > values.min() else np.inf
    return dict(zip(scores, (values - values.mean()) / spread, strict=True))


def reference(first, second, alpha):
    z_first, z_second = reference_zscores(first), reference_zscores(second)
    return {
        docno: alpha * z_first.get(docno, 0.0) + (1 - alpha) * z_second.get(docno, 0.0)
        for docno in dict.fromkeys([*first, *second])
    }


score_lists = st.dictionaries(
    st.sampled_from("abcdefghij"), st.integers(-1000, 1000).map(lambda n: n / 64), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(score_lists, score_lists, st.floats(0.05, 0.95))
def test_zscore_interpolation_equals_the_float64_reference(first, second, alpha):
    out = interpolate(ranking(first), ranking(second), alpha=alpha)
    expected = reference(first, second, alpha)
    assert scores_of(out) == pytest.approx(expected, abs=1e-9)
    assert list(out["rank"]) == list(range(len(expected)))
    assert list(out["score"]) == sorted(out["score"], reverse=True)


@settings(max_examples=30, deadline=None)
@given(score_lists, score_lists)
def test_alpha_one_and_zero_return_exactly_one_of_the_rankings(first, second):
    one, other = ranking(first), ranking(second)
    for alpha, frame in ((1, one), (0, other)):
        out = interpolate(one, other, alpha=alpha)
        assert_frame_equal(out, frame.sort_values("rank", ignore_index=True), check_dtype=False)


def test_raw_scores_are_added_as_they_are():
    out = interpolate(ranking({"a": 0.8, "b": 0.2}), ranking({"b": 0.5, "c": 0.4}), alpha=0.5, normalise=None)
    assert scores_of(out) == {"a": 0.4, "b": 0.35, "c": 0.2}
    assert list(out["docno"]) == ["a", "b", "c"]


def test_a_missing_document_counts_as_the_mean_of_the_list_it_misses():
    out = scores_of(interpolate(ranking({"a": 3.0, "b": 1.0}), ranking({"a": 5.0, "c": 5.0, "d": 8.0}), alpha=0.5))
    assert out["b"] == -0.5
    assert out["c"] == pytest.approx(0.5 * (5 - 6) / np.std([5, 5, 8]))


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e-9, 123456.7])
@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_list_of_equal_scores_has_z_zero(value, n):
    flat = ranking({f"d{i}": value for i in range(n)})
    out = interpolate(flat, ranking({"d0": 1.0, "x": 0.0}), alpha=0.5)
    assert scores_of(out)["x"] == -0.5
    assert scores_of(out)["d0"] == 0.5


def test_each_query_is_normalised_by_itself():
    first = pd.concat([ranking({"a": 1.0, "b": 2.0}, "q1"), ranking({"a": 100.0, "b": 500.0}, "q2")])
    out = interpolate(first, first, alpha=0.3)
    assert scores_of(out, "q1") == pytest.approx({"b": 1.0, "a": -1.0})
    assert scores_of(out, "q2") == pytest.approx({"b": 1.0, "a": -1.0})


def test_a_query_that_one_side_lacks_is_ranked_by_the_other():
    first = ranking({"a": 1.0, "b": 2.0}, "q1")
    second = pd.concat([ranking({"c": 1.0, "d": 2.0}, "q2"), ranking({"a": 9.0, "b": 3.0}, "q1")])
    out = interpolate(first, second, alpha=0.4)
    assert list(out["qid"]) == ["q1", "q1", "q2", "q2"]
    assert list(out[out["qid"] == "q2"]["docno"]) == ["d", "c"]
    assert list(out[out["qid"] == "q1"]["docno"]) == ["a", "b"]


def test_equal_scores_keep_the_order_of_the_first_ranking():
    first = ranking({"z": 1.0, "m": 1.0, "a": 1.0})
    second = ranking({"a": 2.0, "m": 2.0, "z": 2.0, "k": 2.0})
    assert list(interpolate(first, second, alpha=0.5, normalise=None)["docno"]) == ["z", "m", "a", "k"]
    shuffled = first.iloc[[2, 0, 1]]
    assert list(interpolate(shuffled, second, alpha=0.5, normalise=None)["docno"]) == ["z", "m", "a", "k"]


def test_columns_of_both_sides_are_kept_and_the_first_side_wins():
    first = ranking({"a": 1.0, "b": 2.0}, query="from first", text=["A", "B"], query_vec=[np.ones(2)] * 2)
    second = ranking({"b": 1.0, "c": 2.0}, query="from second", text=["other B", "C"], url=["u/b", "u/c"])
    out = interpolate(first, second).set_index("docno")
    assert dict(out["text"]) == {"a": "A", "b": "B", "c": "C"}
    assert out["url"]["c"] == "u/c" and pd.isna(out["url"]["a"])
    assert set(out["query"]) == {"from first"}
    assert all(np.array_equal(vector, np.ones(2)) for vector in out["query_vec"])


def test_integer_and_float32_scores_are_accepted():
    first = ranking({"a": 3, "b": 1})
    second = ranking({"a": 3, "b": 1}).astype({"score": "float32"})
    assert scores_of(interpolate(first, second, alpha=0.5)) == {"a": 1.0, "b": -1.0}


def test_the_input_frames_are_not_changed():
    first, second = ranking({"a": 1.0, "b": 2.0}), ranking({"b": 1.0})
    copies = first.copy(deep=True), second.copy(deep=True)
    interpolate(first, second)
    assert_frame_equal(first, copies[0])
    assert_frame_equal(second, copies[1])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_a_score_that_is_not_finite_is_refused_with_its_side_docno_and_qid(score):
    with pytest.raises(ValueError, match="second ranking gives docno 'b' of qid 'q'"):
        interpolate(ranking({"a": 1.0}), pd.DataFrame({"qid": "q", "docno": ["a", "b"], "score": [1.0, score]}))


def test_a_document_listed_twice_is_refused_with_its_docno():
    twice = pd.concat([ranking({"a": 1.0}), ranking({"a": 2.0})])
    with pytest.raises(ValueError, match="first ranking lists docno 'a' of qid 'q' twice"):
        interpolate(twice, ranking({"a": 1.0}))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_zero_to_one_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Interpolate(pt.Transformer.identity(), pt.Transformer.identity(), alpha=alpha)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="minmax"):
        interpolate(ranking({"a": 1.0}), ranking({"a": 1.0}), normalise="minmax")


def test_a_pipeline_of_weight_zero_is_not_run():
    def fail(frame):
        raise AssertionError("this side has no weight")

    results = pt.Transformer.from_df(ranking({"a": 1.0, "b": 2.0}))
    topics = pd.DataFrame({"qid": ["q"], "query": ["x"]})
    assert list(Interpolate(results, pt.apply.generic(fail), alpha=1)(topics)["docno"]) == ["b", "a"]
    assert list(Interpolate(pt.apply.generic(fail), results, alpha=0)(topics)["docno"]) == ["b", "a"]


def test_the_transformer_gives_what_the_function_gives():
    first, second = ranking({"a": 1.0, "b": 2.0}), ranking({"b": 1.0, "c": 4.0})
    pipeline = Interpolate(pt.Transformer.from_df(first), pt.Transformer.from_df(second), alpha=0.3, normalise=None)
    topics = pd.DataFrame({"qid": ["q"], "query": ["x"]})
    expected = interpolate(first, second, alpha=0.3, normalise=None)
    assert_frame_equal(pipeline(topics)[list(expected.columns)], expected)


def test_the_two_pipelines_are_its_subtransformers_and_are_drawn():
    first, second = pt.Transformer.from_df(ranking({"a": 1.0})), ExcludeDocuments({"q": ["a"]})
    assert pt.inspect.subtransformers(Interpolate(first, second)) == {"first": first, "second": second}
    schematic = pt.schematic.transformer_schematic(Interpolate(first, second))
    assert [inner["label"] for inner in schematic["inner_pipelines"]] == ["Source", "Exclude"]


class ScoreByLength(pt.Transformer):
    """A reranker that needs the text of documents and nothing of the query."""

    def transform(self, inp):
        pt.validate.result_frame(inp, extra_columns=["text"])
        return pt.model.add_ranks(inp.assign(score=inp["text"].str.len().astype(float)))


def test_it_asks_for_the_columns_that_both_pipelines_need():
    def first_choice(pipeline):
        return sorted(pt.inspect.transformer_inputs(pipeline)[0])

    rewritten = pt.apply.query(lambda row: row["query"]) >> ScoreByLength()
    assert first_choice(Interpolate(ScoreByLength(), rewritten)) == ["docno", "qid", "query", "text"]


def test_a_side_that_passes_scores_through_asks_for_scores():
    mixed = Interpolate(ScoreByLength(), pt.Transformer.identity())
    assert [sorted(columns) for columns in pt.inspect.transformer_inputs(mixed)] == [["docno", "qid", "score", "text"]]


def test_equality_covers_every_setting():
    def pipeline(excluded="a", alpha=0.8, normalise="zscore"):
        return Interpolate(ExcludeDocuments({"q": [excluded]}), ExcludeDocuments(), alpha=alpha, normalise=normalise)

    assert pipeline() == pipeline() and hash(pipeline()) == hash(pipeline())
    assert pipeline() != pipeline(alpha=0.7)
    assert pipeline() != pipeline(normalise=None)
    assert pipeline() != pipeline(excluded="b")


def test_equal_interpolations_are_merged_in_a_tree_plan():
    runs = []

    def count(frame):
        runs.extend(frame["qid"])
        return ranking({"a": 1.0, "b": 2.0}, qid="q1")

    shared = pt.apply.generic(count)
    other = pt.Transformer.from_df(ranking({"b": 1.0}, qid="q1"))
    topics = pd.DataFrame({"qid": ["q1"], "query": ["x"]})
    qrels = pd.DataFrame({"qid": ["q1"], "docno": ["a"], "label": [1]})
    systems = [
        Interpolate(shared, other) % 1,
        Interpolate(shared, other) % 2,
        Interpolate(shared, other, alpha=0.1),
    ]
    pt.Experiment(systems, topics, qrels, [nDCG @ 10], plan="tree", verbose=False)
    assert runs == ["q1", "q1"]


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        first = pt.Transformer.from_df(ranking({"a": 1.0, "b": 2.0}))
        return Interpolate(first, pt.apply.query(lambda row: row["query"]) >> first >> ExcludeDocuments())


DATA = Path(os.environ.get("RADAR_DATA", Path(__file__).parents[3] / "shared" / "data")) / "bright"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the published run, ratings and qrels of TheoremQA-T in {DATA}")
def test_rating_interpolation_reproduces_the_published_figures_of_theoremqa_theorems():
    """0.5 · rating + 0.5 · raw cosine over the retriever's top 100, ties in retrieval order, gives .51561."""

    def results(name):
        with gzip.open(DATA / f"rader-gte.theoremqa-theorems.{name}.json.gz", "rt") as file:
            return pd.concat([ranking(scores, qid=qid) for qid, scores in json.load(file).items()], ignore_index=True)

    retrieval = results("retrieval")
    top = retrieval[retrieval["rank"] < 100]
    # The retrieval run comes first, so that its order breaks ties.
    final = interpolate(top, results("ratings"), alpha=0.5, normalise=None)
    qrels = pd.read_csv(
        DATA / "qrels.theoremqa-theorems.txt",
        sep=r"\s+",
        names=["qid", "iteration", "docno", "label"],
        dtype="str",
    ).astype({"label": int})
    measures = [nDCG @ 1, nDCG @ 10, nDCG @ 100, AP @ 10, AP @ 100, R @ 10, R @ 100, P @ 10]
    # trec_eval orders equal scores by docno; descending ranks keep the order that interpolate gave.
    run = pt.model.to_ir_measures(final.assign(score=-final["rank"].astype(float)))
    found = ir_measures.calc_aggregate(measures, pt.model.to_ir_measures(qrels), run)
    published = json.loads((DATA / "rader-gte.theoremqa-theorems.published.json").read_text())
    names = {"nDCG": "NDCG", "AP": "MAP", "R": "Recall", "P": "P"}
    for measure in measures:
        assert round(found[measure], 5) == published[f"{names[measure.NAME]}@{measure['cutoff']}"], measure
    assert round(found[nDCG @ 10], 5) == 0.51561
