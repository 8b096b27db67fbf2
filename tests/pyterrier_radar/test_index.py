import json
import shutil
import tarfile

import numpy as np
import pandas as pd
import pyterrier as pt
import pyterrier_dr
import pytest
from lz4.frame import LZ4FrameFile
from safetensors.numpy import load_file, save_file

from pyterrier_radar import RadarBiEncoder, RadarIndex, _indexer
from pyterrier_radar.datasets import LocalDataset
from torch_radar.encoder import Encoder
from torch_radar.templates import QUERY_PASSAGE
from torch_radar.vectors import VectorStore

WORDS = "group order sequence limit compact cover prime field metric open closed series".split()


def collection(n, start=0):
    return [
        {"docno": f"d{i}", "text": " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 2 + i % 9))}
        for i in range(start, start + n)
    ]


def content(path):
    """What must be the same in two indexes of one collection: every shard's bytes, every docno, the settings."""
    store = VectorStore.open(path)
    shards = {file.name: file.read_bytes() for file in sorted((path / "shards").iterdir())}
    return shards, list(store.iter_docnos()), store.settings, store.is_complete


class StoppedError(Exception):
    pass


def interrupted(docs, after):
    yield from docs[:after]
    raise StoppedError


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(_indexer, "WINDOW", 16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "docs.radar"


def test_documents_are_stored_in_order_as_the_encoder_makes_them(path, tiny_qwen2):
    docs = collection(40)
    index = RadarIndex(path, tiny_qwen2, dtype="float32").index(docs)
    assert len(index) == 40 and index.built()
    stored = list(index.get_corpus_iter())
    assert [d["docno"] for d in stored] == [d["docno"] for d in docs]
    expected = Encoder(tiny_qwen2).encode_documents([d["text"] for d in docs])
    np.testing.assert_allclose(np.stack([d["doc_vec"] for d in stored]), expected, atol=1e-5)


def test_a_frame_a_list_and_a_generator_make_the_same_index(tmp_path, tiny_qwen2):
    docs = collection(20)
    for name, form in (("list", docs), ("frame", pd.DataFrame(docs)), ("generator", iter(docs))):
        RadarIndex(tmp_path / name, tiny_qwen2).index(form)
    assert content(tmp_path / "list") == content(tmp_path / "frame") == content(tmp_path / "generator")


def test_equal_documents_are_encoded_once(path, tiny_qwen2, monkeypatch):
    seen = []
    original = Encoder.encode_documents
    monkeypatch.setattr(Encoder, "encode_documents", lambda self, texts: seen.extend(texts) or original(self, texts))
    RadarIndex(path, tiny_qwen2).index([{"docno": f"d{i}", "text": "same"} for i in range(5)])
    assert seen == ["same"]


def test_an_index_is_loaded_with_the_very_model_that_made_it(path, tiny_qwen2, monkeypatch):
    model = RadarBiEncoder(
        tiny_qwen2, instruction="Find: ", template=QUERY_PASSAGE, max_query_tokens=9, max_document_tokens=31
    )
    made = RadarIndex(path, model).index(collection(20))
    monkeypatch.chdir(path.parent)
    loaded = pt.Artifact.load(path.name)
    assert isinstance(loaded, RadarIndex)
    topics = pd.DataFrame({"qid": ["1"], "query": ["the order of a group, at length, beyond nine tokens"]})
    pd.testing.assert_frame_equal(loaded.retriever()(topics), made.retriever()(topics))
    np.testing.assert_array_equal(loaded.encoder.encode_queries(topics["query"]), model.encode_queries(topics["query"]))


def test_a_model_named_by_a_relative_path_is_found_from_elsewhere(path, tiny_qwen2, monkeypatch):
    monkeypatch.chdir(tiny_qwen2.parent)
    RadarIndex(path, tiny_qwen2.name).index(collection(3))
    monkeypatch.chdir(path.parent)
    assert len(RadarIndex(path).retriever(2).search("a group")) == 2


def test_without_a_model_a_new_index_uses_the_small_default_and_says_so(path, caplog):
    index = RadarIndex(path).index(collection(3))
    assert "radar-mini" in caplog.text
    assert index.encoder.checkpoint.name == "radar-mini"


def test_opening_and_composing_load_no_weights(path, tiny_qwen2):
    RadarIndex(path, tiny_qwen2).index(collection(3))
    index = RadarIndex(path)
    pipeline = index.retriever(10) % 2
    pipeline.compile()
    assert pt.inspect.transformer_inputs(pipeline)
    assert "loaded" not in vars(index.encoder)
    with pytest.raises(ValueError, match="no-such-model"):
        RadarIndex(path, "no-such-model")


def test_given_vectors_are_stored_as_they_are(path):
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    docs = [{"docno": f"d{i}", "doc_vec": v} for i, v in enumerate(vectors)]
    index = RadarIndex(path, dtype="float32").index(docs)
    np.testing.assert_array_equal(np.stack([d["doc_vec"] for d in index.get_corpus_iter()]), vectors)


def test_an_encoder_in_front_indexes_and_retrieves(path, tiny_qwen2):
    encoder = RadarBiEncoder(tiny_qwen2)
    index = RadarIndex(path)
    (encoder >> index).index(iter(collection(50)))
    direct = RadarIndex(path.with_name("direct"), tiny_qwen2).index(collection(50))
    topics = pd.DataFrame({"qid": ["1"], "query": ["open cover"]})
    out = (encoder >> index.retriever(10)).transform(topics).drop(columns="query_vec")
    pd.testing.assert_frame_equal(out, direct.retriever(10)(topics), atol=1e-3)
    with pytest.raises(ValueError, match=r"encoder >> index.retriever\(\)"):
        RadarIndex(path).retriever()(topics)
    assert list(RadarIndex(path, encoder).retriever(1)(topics)["docno"]) == list(out["docno"][:1])


def test_the_metadata_name_type_format_and_package(path, tiny_qwen2):
    RadarIndex(path, tiny_qwen2).index(collection(3))
    assert json.loads((path / "pt_meta.json").read_text()) == {
        "type": "dense_index",
        "format": "radar",
        "package_hint": "pyterrier-radar",
        "vec_size": 64,
        "doc_count": 3,
    }


@pytest.mark.parametrize("after", [0, 1, 15, 16, 17, 39, 40])
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path, tiny_qwen2, after):
    docs = collection(40)
    RadarIndex(tmp_path / "whole", tiny_qwen2).index(docs)
    with pytest.raises(StoppedError):
        RadarIndex(tmp_path / "parts", tiny_qwen2).index(interrupted(docs, after))
    assert len(RadarIndex(tmp_path / "parts")) == after // 16 * 16
    assert not RadarIndex(tmp_path / "parts").built()
    RadarIndex(tmp_path / "parts", tiny_qwen2).index(docs)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_a_run_resumes_with_the_model_it_began_with_when_none_is_named(tmp_path, tiny_qwen2):
    docs = collection(40)
    RadarIndex(tmp_path / "whole", tiny_qwen2).index(docs)
    with pytest.raises(StoppedError):
        RadarIndex(tmp_path / "parts", tiny_qwen2).index(interrupted(docs, 20))
    RadarIndex(tmp_path / "parts").index(docs)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_only_the_rest_is_encoded_when_a_run_resumes(path, tiny_qwen2, monkeypatch):
    docs = collection(40)
    with pytest.raises(StoppedError):
        RadarIndex(path, tiny_qwen2).index(interrupted(docs, 35))
    seen = []
    original = Encoder.encode_documents
    monkeypatch.setattr(Encoder, "encode_documents", lambda self, texts: seen.extend(texts) or original(self, texts))
    RadarIndex(path, tiny_qwen2).index(docs)
    assert set(seen) == {d["text"] for d in docs[32:]}


def test_an_incomplete_index_refuses_to_be_searched_and_says_what_to_do(path, tiny_qwen2):
    with pytest.raises(ValueError, match="no index"):
        RadarIndex(path, tiny_qwen2).retriever().search("x")
    with pytest.raises(StoppedError):
        RadarIndex(path, tiny_qwen2).index(interrupted(collection(40), 20))
    with pytest.raises(ValueError, match="incomplete.*16 documents.*same collection again"):
        RadarIndex(path).retriever().search("x")


@pytest.fixture
def half_done(path, tiny_qwen2):
    with pytest.raises(StoppedError):
        RadarIndex(path, tiny_qwen2).index(interrupted(collection(40), 20))
    return path


def test_another_collection_is_refused_with_position_and_both_docnos(half_done):
    docs = collection(40)
    docs[7], docs[8] = docs[8], docs[7]
    with pytest.raises(ValueError, match="document 7 .*'d8'.*'d7'.*overwrite"):
        RadarIndex(half_done).index(docs)
    with pytest.raises(ValueError, match="document 5 .*at its end.*'d5'"):
        RadarIndex(half_done).index(collection(5))


def test_another_model_or_template_is_refused_with_what_differs(half_done, tiny_qwen2):
    with pytest.raises(ValueError, match="all-MiniLM-L6-v2.*pooling"):
        RadarIndex(half_done, "all-MiniLM-L6-v2").index(collection(40))
    with pytest.raises(ValueError, match="document_prefix.*'document: '.*'Passage: '"):
        RadarIndex(half_done, RadarBiEncoder(tiny_qwen2, template=QUERY_PASSAGE)).index(collection(40))
    with pytest.raises(ValueError, match="text_field.*'text'.*'body'"):
        RadarIndex(half_done, tiny_qwen2, text_field="body").index(collection(40))


def test_another_query_instruction_is_no_reason_to_refuse(path, tiny_qwen2):
    RadarIndex(path, tiny_qwen2).index(collection(20))
    topics = pd.DataFrame({"qid": ["1"], "query": ["open cover"]})
    model = RadarBiEncoder(tiny_qwen2, instruction="Find: ")
    out = RadarIndex(path, model).retriever(20)(topics)
    assert not np.allclose(out["score"], RadarIndex(path).retriever(20)(topics)["score"], atol=1e-4)


def test_weights_changed_in_place_are_refused(path, tiny_qwen2, tmp_path):
    folder = shutil.copytree(tiny_qwen2, tmp_path / "model")
    RadarIndex(path, folder).index(collection(3))
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v + 1 if "layers.1" in k else v for k, v in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="weights"):
        RadarIndex(path).retriever().search("x")


def test_a_complete_index_is_only_changed_by_an_explicit_mode(path, tiny_qwen2):
    index = RadarIndex(path, tiny_qwen2).index(collection(20))
    before = content(path)
    with pytest.raises(ValueError, match="append.*overwrite"):
        index.index(collection(20))
    assert content(path) == before
    with pytest.raises(ValueError, match="'update'"):
        index.indexer(mode="update")


def test_append_adds_documents_and_resumes(tmp_path, tiny_qwen2):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        RadarIndex(folder, tiny_qwen2).index(collection(20))
    more = collection(40, start=20)
    RadarIndex(whole).indexer(mode="append").index(more)
    with pytest.raises(StoppedError):
        RadarIndex(parts).indexer(mode="append").index(interrupted(more, 20))
    assert len(RadarIndex(parts)) == 36 and not RadarIndex(parts).built()
    with pytest.raises(ValueError, match="append to the 20 documents.*interrupted"):
        RadarIndex(parts).index(more)
    RadarIndex(parts).indexer(mode="append").index(more)
    assert content(parts) == content(whole)
    assert len(RadarIndex(whole)) == 60


def test_append_to_an_incomplete_index_is_refused(half_done):
    with pytest.raises(ValueError, match="incomplete"):
        RadarIndex(half_done).indexer(mode="append").index(collection(3, start=90))


def test_append_of_a_stored_docno_is_refused_by_name(path, tiny_qwen2):
    index = RadarIndex(path, tiny_qwen2).index(collection(20))
    with pytest.raises(ValueError, match="'d5'"):
        index.indexer(mode="append").index([{"docno": "new", "text": "x"}, {"docno": "d5", "text": "x"}])


def test_overwrite_replaces_the_index_and_its_model(path, tiny_qwen2):
    RadarIndex(path, tiny_qwen2).index(collection(20))
    index = RadarIndex(path, "all-MiniLM-L6-v2")
    index.indexer(mode="overwrite").index(collection(5))
    assert len(index) == 5
    assert len(RadarIndex(path).retriever().search("a group")) == 5
    assert RadarIndex(path).encoder.checkpoint.name == "all-MiniLM-L6-v2"


def test_a_folder_that_is_no_index_is_never_deleted(path, tiny_qwen2):
    (path / "shards").mkdir(parents=True)
    (path / "shards" / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ValueError, match="shards"):
        RadarIndex(path, tiny_qwen2).indexer(mode="overwrite").index(collection(5))
    assert (path / "shards" / "thesis.txt").read_text() == "irreplaceable"


def test_flex_exports_once_and_finds_the_same_documents(path, tiny_qwen2):
    index = RadarIndex(path, tiny_qwen2).index(collection(40))
    flex = index.flex()
    assert isinstance(flex, pyterrier_dr.FlexIndex) and len(flex) == 40
    topics = RadarBiEncoder(tiny_qwen2)(pd.DataFrame({"qid": ["1"], "query": ["open cover"]}))
    out, expected = flex.np_retriever(num_results=5)(topics), index.retriever(5)(topics)
    np.testing.assert_allclose(out["score"], expected["score"], atol=1e-5)
    assert index.flex().index_path == flex.index_path == path.with_name("docs.radar.flex")
    index.indexer(mode="append").index(collection(3, start=40))
    with pytest.raises(ValueError, match="older than the index"):
        index.flex()
    assert len(index.flex(path.with_name("new.flex"))) == 43


def test_progress_is_shown_only_when_asked_for(tmp_path, tiny_qwen2, capsys):
    RadarIndex(tmp_path / "quiet", tiny_qwen2).index(collection(3))
    assert "indexing" not in capsys.readouterr().err
    RadarIndex(tmp_path / "verbose", tiny_qwen2, verbose=True).index(collection(3))
    assert "indexing: 100%" in capsys.readouterr().err


def test_equality_covers_path_and_given_model(tmp_path, tiny_qwen2):
    one = RadarIndex(tmp_path / "a", tiny_qwen2)
    same = RadarIndex(tmp_path / "b" / ".." / "a", tiny_qwen2, verbose=True)
    assert one == same and hash(one) == hash(same)
    assert one != RadarIndex(tmp_path / "b", tiny_qwen2)
    assert one != RadarIndex(tmp_path / "a", RadarBiEncoder(tiny_qwen2, instruction="Find: "))
    assert one.retriever() == same.retriever()


def test_the_example_is_indexed_once_in_pyterriers_home(tmp_path, monkeypatch):
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, collection(5))))
    few = {"radar:theorems": LocalDataset(docs=tmp_path / "docs.jsonl")}
    monkeypatch.setattr(pt, "get_dataset", few.pop)
    monkeypatch.setenv("PYTERRIER_HOME", str(tmp_path / "home"))
    index = RadarIndex.example()
    assert index.path.is_relative_to(tmp_path / "home") and len(index) == 5
    assert RadarIndex.example() == index


def test_an_index_survives_packaging(path, tiny_qwen2, tmp_path):
    index = RadarIndex(path, tiny_qwen2).index(collection(20))
    package = index.build_package(str(tmp_path / "package.tar.lz4"), verbose=False)
    with LZ4FrameFile(package) as data, tarfile.open(fileobj=data) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    copy = pt.Artifact.load(str(tmp_path / "unpacked"))
    assert content(copy.path) == content(path)
    pd.testing.assert_frame_equal(copy.retriever().search("open cover"), index.retriever().search("open cover"))


class TestIndexAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarIndex("no/such/place.radar", "all-MiniLM-L6-v2")


class TestIndexerAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return RadarBiEncoder() >> RadarIndex("no/such/place.radar").indexer(mode="overwrite")

    def test_inspect_io(self):
        assert pt.inspect.indexer_inputs(self.transformer[1]) == [["docno", "text"], ["docno", "doc_vec"]]
