import numpy as np
import pandas as pd
import pyterrier as pt
import pyterrier_dr
import pytest
import torch
from pandas.testing import assert_frame_equal

from pyterrier_radar import RadarBiEncoder
from torch_radar.encoder import Encoder
from torch_radar.templates import QUERY_PASSAGE

DOCS = [
    {"docno": "d1", "text": "Every bounded monotone sequence of real numbers converges."},
    {"docno": "d2", "text": "A ferry crosses the harbour at noon."},
    {"docno": "d3", "text": "Every bounded monotone sequence of real numbers converges."},
    {"docno": "d4", "text": "Bread needs flour, water, salt and time."},
]
TOPICS = pd.DataFrame(
    [("q1", "does this increasing sequence have a limit?"), ("q2", "when does the boat leave?")],
    columns=["qid", "query"],
)


@pytest.fixture(scope="module")
def model():
    return RadarBiEncoder()


@pytest.fixture
def encoded(monkeypatch):
    """Every list of texts that reaches the core encoder."""
    seen = []

    def spied(original):
        def encode(self, texts):
            seen.append(list(texts))
            return original(self, texts)

        return encode

    for name in ("encode_queries", "encode_documents"):
        monkeypatch.setattr(Encoder, name, spied(getattr(Encoder, name)))
    return seen


def candidates():
    frame = TOPICS.merge(pd.DataFrame(DOCS), how="cross")
    return pt.model.add_ranks(frame.assign(score=1.0))


def test_vectors_are_the_core_encoders_float32_unit_rows(tiny_qwen2):
    model, core = RadarBiEncoder(tiny_qwen2, instruction="Find: "), Encoder(tiny_qwen2, instruction="Find: ")
    texts = ["a", "some longer text", ""]
    np.testing.assert_allclose(model.encode_queries(texts), core.encode_queries(texts), atol=1e-6)
    np.testing.assert_allclose(model.encode_docs(texts), core.encode_documents(texts), atol=1e-6)
    assert model.encode_queries(texts).dtype == model.encode_docs(texts).dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(model.encode_docs(texts), axis=1), 1, atol=1e-5)


def test_a_query_and_a_document_of_the_same_text_get_different_forms(tiny_qwen2):
    model = RadarBiEncoder(tiny_qwen2)
    assert not np.allclose(model.encode_queries(["text"]), model.encode_docs(["text"]), atol=1e-3)


@pytest.mark.parametrize(
    "wrap", [list, tuple, np.array, pd.Series, lambda texts: pt.tqdm(np.array(texts, dtype=object)), iter]
)
def test_texts_may_come_in_any_iterable(model, wrap):
    texts = ["one", "two", "one"]
    expected = model.encode_docs(texts)
    np.testing.assert_array_equal(model.encode_docs(wrap(texts)), expected)
    np.testing.assert_array_equal(model.encode_queries(wrap(texts)), expected)


def test_the_torch_interface_gives_the_same_vectors(model):
    tensor = model.encode_queries_torch(["one", "two"])
    assert isinstance(tensor, torch.Tensor) and not tensor.requires_grad
    np.testing.assert_array_equal(tensor.numpy(), model.encode_queries(["one", "two"]))


def test_equal_documents_and_equal_queries_are_encoded_once(model, encoded):
    out = model.doc_encoder()(pd.DataFrame(DOCS))
    assert encoded == [[DOCS[0]["text"], DOCS[1]["text"], DOCS[3]["text"]]]
    np.testing.assert_array_equal(out["doc_vec"][0], out["doc_vec"][2])
    encoded.clear()
    model.text_scorer()(candidates())
    assert [len(texts) for texts in encoded] == [2, 3]


def test_the_scorer_ranks_by_the_cosine_of_text_and_query(model):
    out = model.text_scorer()(candidates())
    expected = model.encode_queries(TOPICS["query"]) @ model.encode_docs([d["text"] for d in DOCS]).T
    np.testing.assert_allclose(out["score"], expected.ravel(), atol=1e-6)
    best = out[out["rank"] == 0].set_index("qid")["docno"]
    assert dict(best) == {"q1": "d1", "q2": "d2"}
    assert sorted(out[out["qid"] == "q1"]["rank"]) == [0, 1, 2, 3]


def test_the_scorer_uses_the_vectors_a_frame_has(model, encoded):
    frame = candidates().assign(query_vec=[np.array([1.0, 0.0])] * 8, doc_vec=[np.array([0.5, i]) for i in range(8)])
    assert list(model.text_scorer()(frame)["score"]) == [0.5] * 8
    assert encoded == []


def test_the_text_field_is_honoured_everywhere(encoded):
    model = RadarBiEncoder(text_field="body")
    frame = candidates().rename(columns={"text": "body"}).assign(text="wrong column")
    model.text_scorer()(frame)
    model.doc_encoder()(frame[["docno", "body", "text"]])
    assert "wrong column" not in {text for texts in encoded for text in texts}


def test_the_frame_decides_what_the_encoder_does(model):
    assert "query_vec" in model(TOPICS).columns
    assert "doc_vec" in model(pd.DataFrame(DOCS)).columns
    assert "score" in model(candidates()).columns


def test_it_indexes_and_retrieves_with_a_flex_index(model, tmp_path):
    index = pyterrier_dr.FlexIndex(tmp_path / "docs.flex", verbose=False)
    (model >> index).index(DOCS)
    assert len(index) == 4
    out = (model >> index.np_retriever(num_results=2))(TOPICS)
    assert dict(out[out["rank"] == 0].set_index("qid")["docno"]) == {"q1": "d1", "q2": "d2"}
    rescored = (model >> index.np_scorer())(candidates().drop(columns=["text"]))
    assert dict(rescored[rescored["rank"] == 0].set_index("qid")["docno"]) == {"q1": "d1", "q2": "d2"}


def test_input_frames_are_not_changed(model):
    for frame in (TOPICS, pd.DataFrame(DOCS), candidates()):
        before = frame.copy(deep=True)
        model(frame)
        assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    ("columns", "added"),
    [
        (["qid", "query"], ["query_vec"]),
        (["docno", "text"], ["doc_vec"]),
        (["qid", "query", "docno", "text"], ["score", "rank"]),
    ],
)
def test_zero_rows_give_the_right_columns_without_loading_the_model(columns, added):
    model = RadarBiEncoder()
    out = model(pd.DataFrame(columns=columns))
    assert list(out.columns) == [*columns, *added] and len(out) == 0
    assert "loaded" not in vars(model.encoder)


def test_construction_and_inspection_load_no_weights_and_a_wrong_name_fails_at_once():
    model = RadarBiEncoder()
    pt.inspect.transformer_inputs(model.query_encoder() >> model.text_scorer(), strict=False)
    assert hash(model) and repr(model) == "RadarBiEncoder('radar-mini')"
    assert "loaded" not in vars(model.encoder)
    with pytest.raises(ValueError, match="Raderspace/RaDeR_Qwn25"):
        RadarBiEncoder("Raderspace/RaDeR_Qwn25")


def test_without_a_name_it_says_which_model_runs(caplog, tiny_qwen2):
    RadarBiEncoder(tiny_qwen2)
    assert not caplog.records
    RadarBiEncoder()
    assert "radar-mini" in caplog.text


@pytest.mark.parametrize("text", [None, float("nan"), 7])
def test_a_missing_text_is_refused_with_its_docno(model, text):
    frame = pd.DataFrame({"docno": ["d1", "d2"], "text": pd.Series(["fine", text], dtype=object)})
    with pytest.raises(ValueError, match="docno 'd2'.*'text'"):
        model(frame)


@pytest.mark.parametrize("query", [None, float("nan"), "", "  \n"])
def test_a_missing_or_empty_query_is_refused_with_its_qid(model, query):
    frame = pd.DataFrame({"qid": ["q1", "q2"], "query": pd.Series(["fine", query], dtype=object)})
    with pytest.raises(ValueError, match="qid 'q2'"):
        model(frame)


def test_an_empty_document_has_a_vector_too(model):
    out = model(pd.DataFrame({"docno": ["d1"], "text": [""]}))
    assert out["doc_vec"][0].shape == (384,)


def test_vectors_of_another_size_are_refused_with_their_record(model):
    frame = candidates().assign(query_vec=[np.ones(3)] * 8)
    with pytest.raises(ValueError, match=r"docno 'd1'.*\(384,\) where \(3,\)"):
        model.text_scorer()(frame)
    frame = frame.assign(doc_vec=[np.ones(3)] * 7 + [None])
    with pytest.raises(ValueError, match="docno 'd4'"):
        model.text_scorer()(frame)


def test_another_similarity_than_the_dot_product_is_refused(model):
    assert model.sim_fn == pyterrier_dr.SimFn.dot
    with pytest.raises(ValueError, match="cosine"):
        model.text_scorer(sim_fn=pyterrier_dr.SimFn.cos)


CHANGES = [
    {"model": None},
    {"instruction": "Instruct: find\nQuery: "},
    {"template": QUERY_PASSAGE},
    {"max_query_tokens": 33},
    {"max_document_tokens": 33},
    {"dtype": "bfloat16"},
    {"text_field": "body"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("make", ["query_encoder", "doc_encoder", "text_scorer", "scorer", "__repr__"])
def test_transformers_are_unequal_when_one_setting_differs(tiny_qwen2, change, make):
    one, other = RadarBiEncoder(tiny_qwen2), RadarBiEncoder(**({"model": tiny_qwen2} | change))
    if make == "__repr__":
        assert one != other
    elif (make, change) != ("query_encoder", {"text_field": "body"}):
        assert getattr(one, make)() != getattr(other, make)()


@pytest.mark.parametrize("make", ["query_encoder", "doc_encoder", "text_scorer"])
def test_transformers_are_equal_when_only_speed_or_output_to_the_screen_differs(tiny_qwen2, make):
    one = getattr(RadarBiEncoder(tiny_qwen2), make)(batch_size=7)
    other = getattr(RadarBiEncoder(tiny_qwen2, verbose=True, batch_tokens=64), make)()
    assert one == other and hash(one) == hash(other)


def test_the_three_transformers_of_one_model_are_unequal(tiny_qwen2):
    model = RadarBiEncoder(tiny_qwen2)
    assert len({model, model.query_encoder(), model.doc_encoder(), model.text_scorer()}) == 4


def test_a_transformer_can_be_rebuilt_from_its_attributes(tiny_qwen2):
    model = RadarBiEncoder(tiny_qwen2, instruction="Find: ", max_query_tokens=50)
    assert pt.inspect.transformer_apply_attributes(model) == model
    assert pt.inspect.transformer_apply_attributes(model, instruction="Other: ") != model
    assert pt.inspect.subtransformers(model.query_encoder()) == {}


def test_a_cutoff_moves_in_front_of_the_document_encoder(model):
    results = pt.Transformer.from_df(candidates().drop(columns=["query"]))
    fused = (results >> model.doc_encoder() % 2).compile()
    assert len(fused(TOPICS)) == 4


class TestBiEncoderAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarBiEncoder.example()


class TestQueryEncoderAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarBiEncoder.example().query_encoder()


class TestDocEncoderAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarBiEncoder.example().doc_encoder()


class TestTextScorerAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarBiEncoder.example().text_scorer()


def test_another_instruction_shares_the_weights_and_is_another_encoder(tiny_qwen2):
    first = RadarBiEncoder(tiny_qwen2, instruction="Find: ")
    second = first.with_instruction("Prove: ")
    expected = RadarBiEncoder(tiny_qwen2, instruction="Prove: ").encode_queries(["a"])
    assert np.array_equal(second.encode_queries(["a"]), expected)
    assert second.query_encoder() != first.query_encoder()
    assert second.encoder.model is first.encoder.model
