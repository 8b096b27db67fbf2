import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from pandas.testing import assert_frame_equal

from pyterrier_radar import ExcludeDocuments, RadarIndex, RadarRetriever

DOCUMENTS, DIMENSION = 50, 8
_RANDOM = np.random.default_rng(1)
VECTORS = _RANDOM.normal(size=(DOCUMENTS, DIMENSION)).astype(np.float32)
QUERIES = _RANDOM.normal(size=(5, DIMENSION)).astype(np.float32)
TOPICS = pd.DataFrame({"qid": ["q3", "q1", "d7", "q2", "q4"], "query_vec": list(QUERIES), "note": list("abcde")})


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("retriever") / "vectors.radar"
    docs = [{"docno": f"d{i}", "doc_vec": vector} for i, vector in enumerate(VECTORS)]
    return RadarIndex(path, dtype="float32").index(docs)


@pytest.fixture(scope="module")
def text_index(tmp_path_factory, tiny_qwen2):
    path = tmp_path_factory.mktemp("retriever") / "texts.radar"
    docs = [{"docno": f"d{i}", "text": f"theorem number {i} on {'groups' if i % 2 else 'fields'}"} for i in range(20)]
    return RadarIndex(path, tiny_qwen2).index(docs)


def expected(query, k, excluded=()):
    scores = VECTORS.astype(np.float64) @ query.astype(np.float64)
    order = [i for i in np.argsort(-scores, kind="stable") if f"d{i}" not in excluded][:k]
    return [f"d{i}" for i in order], scores[order]


@pytest.mark.parametrize("k", [1, 3, 50, 1000])
def test_it_finds_the_documents_with_the_largest_products(index, k):
    out = index.retriever(k)(TOPICS)
    for qid, query in zip(TOPICS["qid"], QUERIES, strict=True):
        docnos, scores = expected(query, k)
        mine = out[out["qid"] == qid]
        assert list(mine["docno"]) == docnos
        np.testing.assert_allclose(mine["score"], scores, atol=1e-5)
        assert list(mine["rank"]) == list(range(len(docnos)))


def test_results_come_by_query_in_input_order_with_the_columns_of_the_query(index):
    out = index.retriever(2)(TOPICS)
    assert list(out["qid"]) == ["q3", "q3", "q1", "q1", "d7", "d7", "q2", "q2", "q4", "q4"]
    assert list(out.columns) == ["qid", "query_vec", "note", "docno", "score", "rank"]
    assert list(out["note"][:4]) == ["a", "a", "b", "b"]
    assert out["score"].dtype == np.float64 and out["rank"].dtype == np.int64
    assert isinstance(out["docno"][0], str)


def test_the_batch_size_changes_nothing(index):
    assert_frame_equal(index.retriever(7, batch_size=2)(TOPICS), index.retriever(7)(TOPICS))


@pytest.mark.parametrize("form", [dict, pd.DataFrame, ExcludeDocuments])
def test_excluded_documents_make_room_for_others(index, form):
    best = {qid: expected(query, 3)[0][:2] for qid, query in zip(TOPICS["qid"], QUERIES, strict=True)}
    pairs = [{"qid": qid, "docno": docno, "label": -100} for qid, docnos in best.items() for docno in docnos]
    exclude = form(pairs) if form is pd.DataFrame else form(best)
    out = index.retriever(3, exclude=exclude)(TOPICS)
    for qid, query in zip(TOPICS["qid"], QUERIES, strict=True):
        assert list(out[out["qid"] == qid]["docno"]) == expected(query, 3, best[qid])[0]


def test_self_retrieval_leaves_out_the_document_that_is_the_query(index):
    topics = TOPICS.assign(query_vec=[VECTORS[7]] * 5)
    out = index.retriever(1, exclude=True)(topics).set_index("qid")["docno"]
    assert out["q1"] == expected(VECTORS[7], 1)[0][0]
    assert out["d7"] == expected(VECTORS[7], 1, {"d7"})[0][0]
    assert len(out) == 5


def test_a_result_frame_gets_its_own_candidates_scored(index):
    frame = pd.DataFrame(
        [
            ("q1", "d3", "t3", 9.0, 0),
            ("q2", "d4", "t4", 8.0, 0),
            ("q1", "d9", "t9", 7.0, 1),
            ("q1", "d1", "t1", 6.0, 2),
        ],
        columns=["qid", "docno", "text", "score", "rank"],
    ).merge(TOPICS[["qid", "query_vec"]], on="qid", how="left")
    out = index.retriever()(frame)
    assert list(out["qid"]) == ["q1", "q1", "q1", "q2"]
    ranking, _ = expected(QUERIES[1], 50)
    assert list(out["docno"][:3]) == sorted(["d1", "d3", "d9"], key=ranking.index)
    assert all(text == "t" + docno[1:] for text, docno in zip(out["text"], out["docno"], strict=True))
    products = {d: float(VECTORS[int(d[1:])] @ QUERIES[1]) for d in out["docno"][:3]}
    assert dict(zip(out["docno"][:3], out["score"][:3], strict=True)) == pytest.approx(products, abs=1e-5)
    assert list(index.retriever(1)(frame)["rank"]) == [0, 0]
    assert "d9" not in set(index.retriever(exclude={"q1": ["d9"]})(frame)["docno"])


def test_retrieving_and_scoring_agree_on_every_score(text_index):
    topics = pd.DataFrame({"qid": ["1", "2"], "query": ["groups", "fields"]})
    retrieved = text_index.retriever()(topics)
    scored = text_index.retriever()(retrieved.sample(frac=1, random_state=0).sort_values("qid"))
    scores = retrieved.set_index(["qid", "docno"])["score"]
    np.testing.assert_allclose(scored.set_index(["qid", "docno"])["score"].loc[scores.index], scores, atol=1e-6)


def test_a_candidate_that_is_not_stored_is_refused_by_name(index):
    frame = pd.DataFrame({"qid": ["q1"], "query_vec": [QUERIES[0]], "docno": ["d99"]})
    with pytest.raises(ValueError, match="'d99'.*'q1'"):
        index.retriever()(frame)


def test_equal_queries_are_encoded_once_and_a_query_vector_wins_over_text(text_index, monkeypatch):
    encoder, seen = text_index.encoder, []
    original = encoder.encode_queries
    monkeypatch.setattr(encoder, "encode_queries", lambda texts: seen.append(list(texts)) or original(texts))
    topics = pd.DataFrame({"qid": ["1", "2", "3"], "query": ["groups", "fields", "groups"]})
    text_index.retriever()(topics)
    assert seen == [["groups", "fields"]]
    vectors = list(original(["fields"] * 3))
    out = text_index.retriever(1)(topics.assign(query_vec=vectors))
    assert len(seen) == 1
    assert len(set(out["score"])) == 1


@pytest.mark.parametrize("query", ["", "  ", None, float("nan")])
def test_a_missing_or_empty_query_is_refused_with_its_qid(text_index, query):
    with pytest.raises(ValueError, match="qid 'b'"):
        text_index.retriever()(pd.DataFrame({"qid": ["a", "b"], "query": pd.Series(["x", query], dtype=object)}))


@pytest.mark.parametrize("vector", [np.ones(3), None, np.ones((1, DIMENSION))])
def test_a_query_vector_of_another_size_is_refused_with_its_qid(index, vector):
    topics = TOPICS.assign(query_vec=[*QUERIES[:4], vector])
    with pytest.raises(ValueError, match=r"qid 'q4'.*\(8,\)"):
        index.retriever()(topics)


def test_the_input_frame_is_not_changed(index):
    before = TOPICS.copy(deep=True)
    index.retriever(3)(TOPICS)
    assert_frame_equal(TOPICS, before)


@pytest.mark.parametrize(
    ("columns", "out"),
    [
        (["qid", "query"], ["qid", "query", "docno", "score", "rank"]),
        (["qid", "query_vec"], ["qid", "query_vec", "docno", "score", "rank"]),
        (["qid", "query", "docno", "text"], ["qid", "query", "docno", "text", "score", "rank"]),
    ],
)
def test_zero_rows_give_the_right_columns_without_index_or_model(columns, out):
    retriever = RadarIndex("no/such/place.radar", "all-MiniLM-L6-v2").retriever()
    assert list(retriever(pd.DataFrame(columns=columns)).columns) == out
    assert pt.inspect.transformer_outputs(retriever, columns) == out


def test_a_cutoff_is_fused_only_where_it_is_stricter(index):
    retriever = index.retriever(10, exclude={"q1": ["d1"]}, batch_size=3)
    fused = (retriever % 4).compile()
    assert isinstance(fused, RadarRetriever)
    assert fused == index.retriever(4, exclude={"q1": ["d1"]})
    assert_frame_equal(fused(TOPICS), (retriever % 4)(TOPICS))
    assert retriever.num_results == 10
    assert retriever.fuse_rank_cutoff(10) is None and retriever.fuse_rank_cutoff(0) is None
    assert len((retriever % 100).compile()(TOPICS)) == 50


def test_equality_covers_every_setting_that_changes_results(index):
    one = index.retriever(10)
    assert one == index.retriever(10, batch_size=3) and hash(one) == hash(index.retriever(10, batch_size=3))
    assert one != index.retriever(11)
    assert one != index.retriever(10, exclude=True)
    assert one != index.retriever(10, exclude={"q1": ["d1"]})
    assert one != RadarIndex(index.path, "all-MiniLM-L6-v2").retriever(10)


@pytest.mark.parametrize("wrong", [{"num_results": 0}, {"batch_size": 0}])
def test_a_search_for_nothing_is_refused(index, wrong):
    with pytest.raises(ValueError, match="1 or more"):
        index.retriever(**wrong)


def test_the_exclusions_are_not_drawn_as_a_stage(index):
    assert pt.inspect.subtransformers(index.retriever(exclude=True)) == {}


class TestAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarIndex("no/such/place.radar", "all-MiniLM-L6-v2").retriever(10, exclude=True)
