import numpy as np
import pandas as pd
import pyterrier as pt
import pyterrier_alpha as pta
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pyterrier_radar import ExcludeDocuments, ReciprocalRankFusion, reciprocal_rank_fusion
from tests.pyterrier_radar.test_interpolate import ranking, scores_of

SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-5, 5), min_size=1).map(
    lambda scores: {docno: float(score) for docno, score in scores.items()}
)


@settings(max_examples=50, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=4), st.sampled_from([0, 1, 60]))
def test_a_score_is_the_sum_of_one_over_k_and_the_rank_counted_from_one(lists, k):
    expected = {}
    for scores in lists:
        for place, docno in enumerate(sorted(scores, key=lambda docno: -scores[docno]), start=1):
            expected[docno] = expected.get(docno, 0) + 1 / (k + place)
    fused = reciprocal_rank_fusion(*map(ranking, lists), k=k)
    assert scores_of(fused) == pytest.approx(expected)
    assert list(fused["rank"]) == list(range(len(expected)))
    assert np.all(np.diff(fused["score"]) <= 0)


def test_the_scores_are_those_of_pyterrier_alpha_with_ranks_from_one():
    rng = np.random.default_rng(0)
    frames = [
        pd.concat(
            [
                ranking(dict(zip(rng.permutation(list("abcdefghij"))[:7], rng.random(7), strict=True)), qid, query="?")
                for qid in ("q1", "q2")
            ],
            ignore_index=True,
        )
        for _ in range(3)
    ]
    ours = reciprocal_rank_fusion(*frames)
    theirs = pta.fusion.rr_fusion(*[frame.copy() for frame in frames], k=61)  # it counts from 0
    for qid in ("q1", "q2"):
        assert scores_of(ours, qid) == pytest.approx(scores_of(theirs, qid))


def test_equal_scores_keep_the_order_of_the_first_ranking_then_of_the_next():
    fused = reciprocal_rank_fusion(ranking({"z": 2.0, "a": 1.0}), ranking({"a": 2.0, "z": 1.0, "y": 0.5}))
    assert list(fused["docno"]) == ["z", "a", "y"]
    assert fused["score"].iloc[0] == fused["score"].iloc[1]


def test_columns_of_all_rankings_are_kept_and_the_query_known_everywhere():
    first = ranking({"a": 1.0}, query="why?", text="A")
    fused = reciprocal_rank_fusion(first, ranking({"b": 1.0, "a": 0.5}, url="u"))
    assert set(fused.columns) == {"qid", "docno", "score", "rank", "query", "text", "url"}
    assert list(fused["query"]) == ["why?", "why?"]
    assert list(fused["docno"]) == ["a", "b"] and fused["text"].iloc[0] == "A"


def test_the_input_is_not_changed():
    frame = ranking({"a": 1.0, "b": 2.0})
    copy = frame.copy(deep=True)
    reciprocal_rank_fusion(frame, frame)
    assert_frame_equal(frame, copy)


def test_what_cannot_be_fused_is_refused_with_the_place_of_its_ranking():
    with pytest.raises(ValueError, match=r"2\. ranking gives docno 'a' of qid 'q' the score nan"):
        reciprocal_rank_fusion(ranking({"a": 1.0}), ranking({"a": 1.0}).assign(score=float("nan")))
    with pytest.raises(ValueError, match=r"1\. ranking lists docno 'a' of qid 'q' twice"):
        reciprocal_rank_fusion(pd.concat([ranking({"a": 1.0}), ranking({"a": 2.0})]))
    with pytest.raises(ValueError, match="at least one"):
        reciprocal_rank_fusion()
    with pytest.raises(ValueError, match="at least one"):
        ReciprocalRankFusion()
    with pytest.raises(ValueError, match="k must be 0 or more"):
        ReciprocalRankFusion(pt.Transformer.identity(), k=-1)


def test_the_transformer_gives_what_the_function_gives():
    first, second = ranking({"a": 1.0, "b": 2.0}), ranking({"b": 1.0, "c": 4.0})
    pipeline = ReciprocalRankFusion(pt.Transformer.from_df(first), pt.Transformer.from_df(second), k=3)
    expected = reciprocal_rank_fusion(first, second, k=3)
    found = pipeline(pd.DataFrame({"qid": ["q"], "query": ["x"]}))
    assert_frame_equal(found[list(expected.columns)], expected)


def test_equality_covers_the_pipelines_their_order_and_k():
    one, other = ExcludeDocuments({"q": ["a"]}), ExcludeDocuments({"q": ["b"]})
    assert ReciprocalRankFusion(one, other) == ReciprocalRankFusion(ExcludeDocuments({"q": ["a"]}), other)
    assert ReciprocalRankFusion(one, other) != ReciprocalRankFusion(other, one)
    assert ReciprocalRankFusion(one, other) != ReciprocalRankFusion(one)
    assert ReciprocalRankFusion(one, other) != ReciprocalRankFusion(one, other, k=61)


def test_its_pipelines_are_drawn():
    source = pt.Transformer.from_df(ranking({"a": 1.0}))
    schematic = pt.schematic.transformer_schematic(ReciprocalRankFusion(source, source, source))
    assert [inner["label"] for inner in schematic["inner_pipelines"]] == ["Source"] * 3


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        first = pt.Transformer.from_df(ranking({"a": 1.0, "b": 2.0}))
        return ReciprocalRankFusion(first, first >> ExcludeDocuments({"q": ["a"]}))
