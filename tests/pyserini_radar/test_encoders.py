"""Encoders in Pyserini's shape give the vectors of ``torch_radar.Encoder``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyserini_radar import RadarDocumentEncoder, RadarQueryEncoder
from torch_radar import Encoder

TEXTS = ["Let $G$ be a group.\nThen its order …", "", "étale 定理", "ferries " * 50]


@pytest.fixture(scope="module")
def plain(tiny_qwen2: Path) -> Encoder:
    return Encoder(tiny_qwen2, dtype="float32")


def test_documents_and_queries_are_encoded_in_the_checkpoint_s_own_forms(tiny_qwen2: Path, plain: Encoder) -> None:
    documents = RadarDocumentEncoder(tiny_qwen2, dtype="float32")
    queries = RadarQueryEncoder(tiny_qwen2, dtype="float32")
    assert documents.dimension == plain.dimension
    np.testing.assert_array_equal(documents.encode(TEXTS), plain.encode_documents(TEXTS))
    np.testing.assert_array_equal(queries.encode_batch(TEXTS), plain.encode_queries(TEXTS))
    vector = queries.encode(TEXTS[0])
    assert vector.shape == (plain.dimension,) and vector.dtype == np.float32
    np.testing.assert_array_equal(vector, plain.encode_queries(TEXTS[:1])[0])


def test_an_empty_field_which_pyserini_reads_as_none_is_the_empty_text(plain: Encoder) -> None:
    np.testing.assert_array_equal(RadarDocumentEncoder(plain).encode([None]), plain.encode_documents([""]))


def test_titles_stand_in_front_and_a_missing_part_leaves_no_blank(plain: Encoder) -> None:
    given = RadarDocumentEncoder(plain).encode(["a", None, "c"], titles=["Lagrange", "B", None])
    np.testing.assert_array_equal(given, plain.encode_documents(["Lagrange a", "B", "c"]))


def test_titles_and_texts_that_differ_in_number_are_refused(plain: Encoder) -> None:
    with pytest.raises(ValueError, match="shorter|longer"):
        RadarDocumentEncoder(plain).encode(["a", "b"], titles=["A"])


def test_a_length_given_cuts_this_call_only(plain: Encoder) -> None:
    documents, queries = RadarDocumentEncoder(plain), RadarQueryEncoder(plain)
    short = Encoder(plain.checkpoint, dtype="float32", max_document_tokens=8, max_query_tokens=8)
    np.testing.assert_array_equal(documents.encode(TEXTS, max_length=8), short.encode_documents(TEXTS))
    np.testing.assert_array_equal(queries.encode(TEXTS[3], max_length=8), short.encode_queries(TEXTS[3:])[0])
    np.testing.assert_array_equal(documents.encode(TEXTS), plain.encode_documents(TEXTS))
    np.testing.assert_array_equal(
        RadarDocumentEncoder(plain, max_length=8).encode(TEXTS), short.encode_documents(TEXTS)
    )
    np.testing.assert_array_equal(
        RadarQueryEncoder(plain, max_length=8).encode(TEXTS[3]), queries.encode(TEXTS[3], max_length=8)
    )


def test_the_instruction_stands_in_the_query_form(plain: Encoder) -> None:
    told = RadarQueryEncoder(plain, instruction="Instruct: find theorems\nQuery: ")
    expected = plain.with_instruction("Instruct: find theorems\nQuery: ").encode_queries(TEXTS)
    np.testing.assert_array_equal(told.encode_batch(TEXTS), expected)
    assert not np.array_equal(expected, plain.encode_queries(TEXTS))


def test_a_shared_encoder_keeps_its_settings_and_lends_its_weights(plain: Encoder) -> None:
    before = plain.settings()
    told = RadarQueryEncoder(plain, instruction="other", max_length=9)
    assert plain.settings() == before
    assert told.encoder.model is plain.model
    assert RadarQueryEncoder(told.encoder).encoder.instruction == "other"
    with pytest.raises(ValueError, match="its own device and dtype"):
        RadarQueryEncoder(plain, dtype="float32")


def test_fp16_is_refused_where_the_model_runs_in_another_precision(tiny_qwen2: Path, plain: Encoder) -> None:
    with pytest.raises(ValueError, match="opened in float32"):
        RadarDocumentEncoder(plain).encode(TEXTS, fp16=True)
    half = RadarDocumentEncoder(tiny_qwen2, dtype="float16")
    np.testing.assert_allclose(half.encode(TEXTS, fp16=True), plain.encode_documents(TEXTS), atol=5e-3)


def test_a_separator_is_refused(plain: Encoder) -> None:
    with pytest.raises(ValueError, match="add_sep"):
        RadarDocumentEncoder(plain).encode(TEXTS, add_sep=True)
