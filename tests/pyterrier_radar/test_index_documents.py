"""What becomes of documents that are not as they should be."""

import numpy as np
import pytest

from pyterrier_radar import RadarIndex, _indexer
from tests.pyterrier_radar.test_index import StoppedError, collection, content, interrupted


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(_indexer, "WINDOW", 16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "docs.radar"


GOOD = [{"docno": "g1", "text": "fine"}, {"docno": "g2", "text": "fine too"}]
BAD = {
    "no docno": ({"text": "x"}, "document 2.*docno None"),
    "docno no string": ({"docno": 7, "text": "x"}, "document 2.*docno 7"),
    "empty docno": ({"docno": "", "text": "x"}, "document 2.*docno ''"),
    "no text": ({"docno": "bad", "title": "x"}, "'bad' has no field 'text'.*title"),
    "None": ({"docno": "bad", "text": None}, "'bad' has None"),
    "NaN": ({"docno": "bad", "text": float("nan")}, "'bad' has nan"),
    "no string": ({"docno": "bad", "text": 7}, "'bad' has 7"),
    "empty": ({"docno": "bad", "text": ""}, "'bad' has an empty 'text'.*skip"),
    "blank": ({"docno": "bad", "text": " \n"}, "'bad' has an empty 'text'"),
    "twice": ({"docno": "g1", "text": "x"}, "'g1' occurs twice"),
    "vector": ({"docno": "bad", "doc_vec": np.ones(64)}, "'bad'.*doc_vec"),
}


@pytest.mark.parametrize(("document", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_document_is_refused_by_name_before_anything_is_encoded(path, tiny_qwen2, document, message):
    index = RadarIndex(path, tiny_qwen2)
    with pytest.raises(ValueError, match=message):
        index.index([*GOOD, document])
    assert not index.built()


def test_a_docno_repeated_many_windows_later_is_refused_and_the_rest_is_kept(path, tiny_qwen2):
    docs = collection(40)
    docs[37]["docno"] = "d3"
    with pytest.raises(ValueError, match="'d3' occurs twice.*the 32 documents stored so far are kept"):
        RadarIndex(path, tiny_qwen2).index(docs)
    docs[37]["docno"] = "d37"
    assert len(RadarIndex(path, tiny_qwen2).index(docs)) == 40


@pytest.mark.parametrize("vector", [np.ones(4), np.ones((1, 5)), None, 3.0])
def test_a_vector_of_another_size_is_refused_by_name(path, vector):
    with pytest.raises(ValueError, match=r"'bad'.*\(5,\) is needed"):
        RadarIndex(path).index([{"docno": "g", "doc_vec": np.ones(5)}, {"docno": "bad", "doc_vec": vector}])


def test_text_for_an_index_of_given_vectors_is_refused(path):
    RadarIndex(path).index([{"docno": "g", "doc_vec": np.ones(5)}])
    with pytest.raises(ValueError, match="doc_vec"):
        RadarIndex(path).indexer(mode="append").index(GOOD)


def test_documents_without_text_are_encoded_or_skipped_on_request(tmp_path, tiny_qwen2, caplog):
    docs = [*GOOD, {"docno": "empty", "text": ""}, {"docno": "blank", "text": "  "}, {"docno": "g3", "text": "x"}]
    encoded = RadarIndex(tmp_path / "a", tiny_qwen2, empty_text="encode").index(docs)
    assert [d["docno"] for d in encoded.get_corpus_iter()] == ["g1", "g2", "empty", "blank", "g3"]
    skipped = RadarIndex(tmp_path / "b", tiny_qwen2, empty_text="skip").index(docs)
    assert [d["docno"] for d in skipped.get_corpus_iter()] == ["g1", "g2", "g3"]
    assert "2 documents without text" in caplog.text
    with pytest.raises(ValueError, match="'drop'"):
        RadarIndex(tmp_path / "c", tiny_qwen2, empty_text="drop")


def test_a_run_that_skips_empty_documents_resumes_too(tmp_path, tiny_qwen2):
    docs = collection(60)
    for i in range(0, 60, 3):
        docs[i]["text"] = ""
    RadarIndex(tmp_path / "whole", tiny_qwen2, empty_text="skip").index(docs)
    with pytest.raises(StoppedError):
        RadarIndex(tmp_path / "parts", tiny_qwen2, empty_text="skip").index(interrupted(docs, 50))
    RadarIndex(tmp_path / "parts", tiny_qwen2, empty_text="skip").index(docs)
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_an_empty_collection_is_refused(path, tiny_qwen2):
    with pytest.raises(ValueError, match="no document"):
        RadarIndex(path, tiny_qwen2).index([])
