"""Averages of adapters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.runs import write_recipe
from torch_radar.checkpoints import MINILM, resolve
from torch_radar.encoder import Encoder
from torch_radar.loading import LazyModel
from training.averaging import average_adapters, low_rank_average
from training.export import ExportError, export
from training.run import train

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def runs(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    settings = {"max_steps": 2, "lora": {"rank": 2, "alpha": 8, "dropout": 0, "last_layers": 1}}
    return [
        train(write_recipe(folder / f"{s}.yaml", base, "retriever", data, seed=s, **settings), folder / str(s))
        for s in range(3)
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(LazyModel(resolve(folder), device="cpu").loaded.model.named_parameters())


def test_the_average_adapter_merges_to_the_average_of_the_merged_weights(runs, tmp_path) -> None:
    averaged = weights(average_adapters(runs, tmp_path / "average"))
    merged = [weights(run) for run in runs]
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, torch.stack([w[name] for w in merged]).mean(dim=0), atol=1e-6, rtol=1e-5)
    moved = [name for name in averaged if not torch.equal(merged[0][name], merged[1][name])]
    assert moved and all("layers.1." in name for name in moved)


def test_it_is_read_like_any_adapter_and_survives_half_precision(runs, tmp_path) -> None:
    full, half = (average_adapters(runs, tmp_path / str(t), dtype=t) for t in (torch.float32, torch.float16))
    texts = ["Is it bounded?", "every compact set"]
    assert abs(Encoder(full).encode_queries(texts) - Encoder(half).encode_queries(texts)).max() < 1e-3


def test_half_the_strength_lies_half_way_to_the_base(runs, base, tmp_path) -> None:
    half, whole = (weights(average_adapters(runs, tmp_path / str(s), strength=s)) for s in (0.5, 1.0))
    untrained = load_file(base / "model.safetensors")
    for name, tensor in half.items():
        torch.testing.assert_close(tensor, (untrained[name] + whole[name]) / 2, atol=1e-6, rtol=1e-5)


def is_adapted(name: str) -> bool:
    *_, layer, kind = name.split(".")
    return layer in LAYERS and kind == "weight"


@pytest.fixture(scope="module")
def whole_runs(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("whole")
    settings = {"max_steps": 2, "lora": None, "learning_rate": 1e-3}
    return [
        train(write_recipe(folder / f"{s}.yaml", base, "retriever", data, seed=s, **settings), folder / str(s))
        for s in range(2)
    ]


def test_an_adapter_of_full_rank_holds_what_all_weights_of_its_layers_learnt(whole_runs, base, tmp_path) -> None:
    averaged = weights(low_rank_average(whole_runs, tmp_path / "adapter", rank=70, targets=LAYERS))
    trained, untrained = [weights(run) for run in whole_runs], load_file(base / "model.safetensors")
    for name, tensor in averaged.items():
        mean = torch.stack([w[name] for w in trained]).mean(dim=0)
        learnt = is_adapted(name)
        assert learnt == (not torch.equal(tensor, untrained[name]))
        torch.testing.assert_close(tensor, mean if learnt else untrained[name], atol=1e-5, rtol=1e-5)


def test_a_lower_rank_is_the_nearest_change_of_that_rank(whole_runs, base, tmp_path) -> None:
    narrow = weights(low_rank_average(whole_runs[:1], tmp_path / "adapter", rank=3, targets=LAYERS))
    trained, untrained = weights(whole_runs[0]), load_file(base / "model.safetensors")
    for name in narrow:
        if is_adapted(name):
            kept = narrow[name] - untrained[name]
            values = torch.linalg.svdvals(trained[name] - untrained[name])
            assert torch.linalg.matrix_rank(kept, rtol=1e-3) == 3
            # Eckart and Young: what is missing is the rest of the singular values.
            torch.testing.assert_close((trained[name] - narrow[name]).norm(), values[3:].norm(), rtol=1e-3, atol=1e-5)


def test_a_weaker_average_lies_between_it_and_the_base(whole_runs, base, tmp_path) -> None:
    half, whole = (
        weights(low_rank_average(whole_runs, tmp_path / str(s), rank=8, targets=LAYERS, strength=s)) for s in (0.5, 1.0)
    )
    untrained = load_file(base / "model.safetensors")
    for name, tensor in half.items():
        torch.testing.assert_close(tensor, (untrained[name] + whole[name]) / 2, atol=1e-6, rtol=1e-5)


def test_a_reranker_becomes_an_adapter_with_its_head_over_the_base_it_is_told(base, data, tmp_path) -> None:
    settings = {"max_steps": 2, "lora": None, "learning_rate": 1e-3}
    between = tmp_path / "between"
    export(train(write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings), tmp_path / "r"), between)
    run = train(write_recipe(tmp_path / "rr.yaml", between, "reranker", data, **settings), tmp_path / "run")
    adapter = low_rank_average([run], tmp_path / "adapter", rank=70, targets=LAYERS, base=str(base))
    assert resolve(adapter).base == str(base) and resolve(adapter).kind == "reranker"
    written, trained, untrained = weights(adapter), weights(run), load_file(base / "model.safetensors")
    for name, tensor in written.items():
        learnt = is_adapted(name) or name == "score.weight"
        kept = trained[name] if learnt else untrained[name.removeprefix("model.")]
        torch.testing.assert_close(tensor, kept, atol=1e-5, rtol=1e-5)


def test_a_layer_that_learnt_nothing_is_no_part_of_the_adapter(whole_runs, base, tmp_path) -> None:
    run = shutil.copytree(whole_runs[0], tmp_path / "run")
    state, untrained = load_file(run / "model.safetensors"), load_file(base / "model.safetensors")
    layer = next(name for name in state if name.endswith("layers.0.mlp.up_proj.weight"))
    save_file(state | {layer: untrained[layer]}, run / "model.safetensors", {"format": "pt"})
    adapter = low_rank_average([run], tmp_path / "adapter", rank=2, targets=LAYERS)
    assert not any(".layers.0.mlp.up_proj." in name for name in load_file(adapter / "adapter_model.safetensors"))
    learnt = weights(adapter)
    assert torch.equal(learnt[layer], untrained[layer])
    assert all(torch.equal(learnt[name], untrained[name]) == (name == layer) for name in state if is_adapted(name))


def test_what_has_no_low_rank_average_is_refused(runs, whole_runs, tmp_path) -> None:
    with pytest.raises(ExportError, match="use average_adapters"):
        low_rank_average(runs, tmp_path / "adapter", rank=2, targets=LAYERS)
    with pytest.raises(ExportError, match="no layer named nothing"):
        low_rank_average(whole_runs, tmp_path / "adapter", rank=2, targets=["nothing"])
    with pytest.raises(ExportError, match="not of the shape"):
        low_rank_average(whole_runs, tmp_path / "adapter", rank=2, targets=LAYERS, base=MINILM.name)
    assert not (tmp_path / "adapter").exists()


def test_runs_of_other_shapes_are_refused(runs, base, data, tmp_path) -> None:
    other = train(write_recipe(tmp_path / "o.yaml", base, "retriever", data, max_steps=1), tmp_path / "other")
    with pytest.raises(ExportError, match="other is not like .*r, lora_alpha"):
        average_adapters([runs[0], other], tmp_path / "average")
    assert not (tmp_path / "average").exists()
