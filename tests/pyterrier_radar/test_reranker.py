import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from pandas.testing import assert_frame_equal

from pyterrier_radar import RadarReranker
from torch_radar.reranker import Reranker
from torch_radar.templates import AUTHORS_PAIR

QUERY = "does this sequence converge?"
RESULTS = pd.DataFrame(
    [
        ("q1", QUERY, "d1", "a bounded monotone sequence converges", 9.0, 0),
        ("q2", "when does the ferry leave?", "d1", "a bounded monotone sequence converges", 8.0, 0),
        ("q1", QUERY, "d2", "bread needs flour", 7.0, 1),
        ("q1", QUERY, "d3", "a bounded monotone sequence converges", 6.0, 2),
    ],
    columns=["qid", "query", "docno", "text", "score", "rank"],
)


def test_scores_are_the_core_rerankers_logits_and_ranks_follow(tiny_qwen2_reranker):
    out = RadarReranker(tiny_qwen2_reranker)(RESULTS)
    pairs = list(zip(RESULTS["query"], RESULTS["text"], strict=True))
    np.testing.assert_allclose(out["score"], Reranker(tiny_qwen2_reranker).score(pairs), atol=1e-5)
    assert out["score"].dtype == np.float64
    for _, ranking in out.groupby("qid"):
        assert list(ranking.sort_values("rank")["score"]) == sorted(ranking["score"], reverse=True)
        assert sorted(ranking["rank"]) == list(range(len(ranking)))


def test_equal_pairs_get_equal_scores_and_keep_their_order(tiny_qwen2_reranker):
    out = RadarReranker(tiny_qwen2_reranker)(RESULTS).set_index(["qid", "docno"])
    assert out["score"]["q1", "d1"] == out["score"]["q1", "d3"]
    assert out["rank"]["q1", "d1"] < out["rank"]["q1", "d3"]
    assert out["score"]["q1", "d1"] != out["score"]["q2", "d1"]


def test_the_input_frame_is_not_changed(tiny_qwen2_reranker):
    before = RESULTS.copy(deep=True)
    RadarReranker(tiny_qwen2_reranker)(RESULTS)
    assert_frame_equal(RESULTS, before)


def test_the_text_field_is_honoured(tiny_qwen2_reranker):
    renamed = RESULTS.rename(columns={"text": "body"}).assign(text="wrong column")
    out = RadarReranker(tiny_qwen2_reranker, text_field="body")(renamed)
    np.testing.assert_allclose(out["score"], RadarReranker(tiny_qwen2_reranker)(RESULTS)["score"], atol=1e-5)


def test_zero_rows_give_the_right_columns_without_loading_the_model(tiny_qwen2_reranker):
    reranker = RadarReranker(tiny_qwen2_reranker)
    out = reranker(RESULTS.iloc[:0])
    assert len(out) == 0 and set(out.columns) == set(RESULTS.columns)
    out = reranker(pd.DataFrame(columns=["qid", "query", "docno", "text"]))
    assert list(out.columns) == ["qid", "query", "docno", "text", "score", "rank"]
    assert "loaded" not in vars(reranker.reranker)


def test_without_a_model_it_says_what_to_name():
    with pytest.raises(ValueError, match="reranker"):
        RadarReranker()
    with pytest.raises(ValueError, match="no-such-model"):
        RadarReranker("no-such-model")


def test_a_retriever_is_refused(tiny_qwen2):
    with pytest.raises(ValueError, match="retriever"):
        RadarReranker(tiny_qwen2)


@pytest.mark.parametrize("value", [None, float("nan")])
@pytest.mark.parametrize(("column", "name"), [("text", "docno 'd2'"), ("query", "qid 'q1'")])
def test_a_missing_text_or_query_is_refused_with_its_name(tiny_qwen2_reranker, value, column, name):
    frame = RESULTS.astype(object)
    frame.loc[2, column] = value
    with pytest.raises(ValueError, match=name):
        RadarReranker(tiny_qwen2_reranker)(frame)


def test_an_empty_query_is_refused_with_its_qid(tiny_qwen2_reranker):
    with pytest.raises(ValueError, match="qid 'q1' has an empty query"):
        RadarReranker(tiny_qwen2_reranker)(RESULTS.assign(query=" "))


def test_a_query_that_leaves_no_room_is_refused_with_its_qid(tiny_qwen2_reranker):
    long_query = RESULTS.assign(query=["short", "word " * 500, "short", "short"])
    with pytest.raises(ValueError, match="qid 'q2' with docno 'd1'"):
        RadarReranker(tiny_qwen2_reranker, max_tokens=64)(long_query)


def test_equality_covers_every_setting(tiny_qwen2_reranker):
    one = RadarReranker(tiny_qwen2_reranker)
    same = RadarReranker(tiny_qwen2_reranker, verbose=True, batch_tokens=64)
    assert one == same and hash(one) == hash(same)
    for change in ({"template": AUTHORS_PAIR}, {"max_tokens": 99}, {"dtype": "bfloat16"}, {"text_field": "body"}):
        assert one != RadarReranker(tiny_qwen2_reranker, **change), change
    assert one != RadarReranker("Raderspace/reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes")


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarReranker("Raderspace/reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes")
