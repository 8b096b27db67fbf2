"""The trainers: no number that is not finite, no checkpoint that is not whole, memory saved without a difference."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from tests.training.runs import curve, write_recipe
from training import run as run_module
from training.losses import InfoNCE
from training.model import TextModel, make_trainable, set_dropout
from training.plan import plan_rows
from training.recipe import Lora
from training.run import load_base, read_data, train
from training.trainer import TrainingError, complete_checkpoints, read_metrics


def text_model(recipe) -> TextModel:
    loaded, checkpoint = load_base(recipe)
    torch.manual_seed(0)
    make_trainable(loaded, recipe.lora)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return TextModel(loaded, checkpoint).train()


def batch_of(recipe, folder: Path, model: TextModel) -> dict:
    training_set, weights, _ = read_data(recipe, folder / "cache")
    rows = plan_rows(weights, epochs=1, batch=8, seed=0)[:8]
    collator = run_module._collator(recipe, training_set, model.loaded, model.checkpoint)
    return collator([{"row": int(row), "position": i} for i, row in enumerate(rows)])


def loss_and_gradients(model: TextModel, batch: dict, *, caching: bool, tokens: int = 128) -> tuple[float, list]:
    model.zero_grad()
    torch.manual_seed(7)
    column = {"input_ids": batch["text_input_ids"], "attention_mask": batch["text_attention_mask"]}
    loss = InfoNCE(model, temperature=0.05, caching=caching, mini_batch_tokens=tokens)([column], batch["label"])
    loss.backward()
    return loss.item(), [p.grad.clone() for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("caching", [True, False])
def test_activation_checkpointing_changes_neither_loss_nor_gradients(caching, base, data, tmp_path) -> None:
    lora = {"rank": 4, "alpha": 16, "dropout": 0.0}
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, lora=lora)
    model = text_model(recipe)
    batch = batch_of(recipe, tmp_path, model)
    plain_loss, plain = loss_and_gradients(model, batch, caching=caching)
    model.network.activation_checkpointing_enable()
    loss, gradients = loss_and_gradients(model, batch, caching=caching)
    assert loss == pytest.approx(plain_loss, abs=1e-5)
    for ours, expected in zip(gradients, plain, strict=True):
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradcache_with_dropout_gives_the_gradients_of_the_plain_graph(checkpointing, base, data, tmp_path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, lora={"rank": 4, "alpha": 16, "dropout": 0.3})
    model = text_model(recipe)
    batch = batch_of(recipe, tmp_path, model)
    if checkpointing:
        model.network.activation_checkpointing_enable()
    plain_loss, plain = loss_and_gradients(model, batch, caching=False)
    loss, gradients = loss_and_gradients(model, batch, caching=True)
    assert loss == pytest.approx(plain_loss, abs=1e-5)
    for ours, expected in zip(gradients, plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["retriever", "reranker"])
def test_the_recipe_s_activation_checkpointing_reaches_the_model(kind, base, data, tmp_path, monkeypatch) -> None:
    used = []
    keep = run_module.save_trained
    monkeypatch.setattr(
        run_module, "save_trained", lambda r, loaded, *rest: used.append(loaded) or keep(r, loaded, *rest)
    )
    losses = {}
    for checkpointing in (True, False):
        settings = {"activation_checkpointing": checkpointing, "max_steps": 3, "lora": {"rank": 4, "dropout": 0.0}}
        recipe = write_recipe(tmp_path / "r.yaml", base, kind, data, **settings)
        losses[checkpointing] = [loss for _, loss in curve(train(recipe, tmp_path / str(checkpointing)))]
    assert [loaded.backbone.is_activation_checkpointing for loaded in used] == [True, False]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def poison(monkeypatch: pytest.MonkeyPatch, step: int, what: str) -> None:
    """Makes the outputs, or only their gradients, not finite from a step on."""
    forward = TextModel.forward
    calls = {"n": 0}

    def poisoned(self, features, **rest):
        features = forward(self, features, **rest)
        if torch.is_grad_enabled():
            calls["n"] += 1
        vectors = features["sentence_embedding"]
        if calls["n"] >= step:
            if what == "loss":
                features["sentence_embedding"] = vectors * torch.nan
            elif vectors.requires_grad:
                vectors.register_hook(lambda gradient: gradient * torch.inf)
        return features

    monkeypatch.setattr(TextModel, "forward", poisoned)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_not_finite_stops_the_run_with_its_batch(what, base, data, tmp_path, monkeypatch) -> None:
    settings = {"caching": False, "mini_batch_tokens": 10**6, "save_every": 1, "max_steps": 6, "checkpoints_kept": 9}
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings)
    output = tmp_path / "out"
    poison(monkeypatch, 3, what)
    with pytest.raises(TrainingError, match=f"the {what} of step 3 is (nan|inf).*bad-batch-3.json"):
        train(recipe, output)
    batch = json.loads((output / "bad-batch-3.json").read_text())
    assert len(batch["label"]["query"]) == 4 and len(batch["text_input_ids"]) > 4
    assert [folder.name for folder in complete_checkpoints(output)] == ["checkpoint-1", "checkpoint-2"]
    monkeypatch.undo()
    train(recipe, output)
    assert [step for step, _ in curve(output)] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so(base, data, tmp_path, small_disk, monkeypatch) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=6, save_every=2)
    whole = train(recipe, tmp_path / "whole")
    output = small_disk / "out"
    counted = run_module.TextModel.save
    saved = []

    def fill_up(self, path, *args, **kwargs):
        saved.append(path)
        if len(saved) == 2:  # of what is left, 40 KiB
            with (small_disk / "other").open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
                file.truncate(file.tell() - 40960)
        counted(self, path, *args, **kwargs)

    monkeypatch.setattr(run_module.TextModel, "save", fill_up)
    with pytest.raises(TrainingError, match="checkpoint-4 .*the last good one is .*checkpoint-2. Make room"):
        train(recipe, output)
    assert [folder.name for folder in complete_checkpoints(output)] == ["checkpoint-2"]
    monkeypatch.undo()
    (small_disk / "other").unlink()
    train(recipe, output)
    assert curve(output) == curve(whole)


def test_a_cut_last_line_of_the_metrics_is_left_out(tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_a_checkpoint_of_another_shape_is_refused(base, data, tmp_path) -> None:
    model = text_model(write_recipe(tmp_path / "r.yaml", base, "retriever", data))
    model.save(str(tmp_path))
    other = text_model(write_recipe(tmp_path / "r.yaml", base, "retriever", data, lora={"targets": ["q_proj"]}))
    with pytest.raises(ValueError, match="run of another shape"):
        other.restore(tmp_path)


def test_adapters_can_only_be_put_where_there_are_linear_modules(base, data, tmp_path) -> None:
    loaded, _ = load_base(write_recipe(tmp_path / "r.yaml", base, "retriever", data))
    with pytest.raises(ValueError, match=r"\['w_pack'\].*it has \['down_proj', 'gate_proj', 'k_proj'"):
        make_trainable(loaded, Lora(targets=("q_proj", "w_pack")))


def test_a_base_without_dropout_gives_the_same_vectors_in_training_as_in_use() -> None:
    from torch_radar.checkpoints import MINILM
    from torch_radar.loading import LazyModel

    loaded = LazyModel(MINILM, device="cpu").loaded
    model = TextModel(loaded, MINILM)
    ids = torch.randint(5, 900, (3, 12), generator=torch.Generator().manual_seed(0))
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    served = model.eval()(dict(features))["sentence_embedding"]
    assert not torch.allclose(model.train()(dict(features))["sentence_embedding"], served, atol=1e-3)
    set_dropout(loaded, 0.0)
    torch.testing.assert_close(model.train()(dict(features))["sentence_embedding"], served, atol=1e-5, rtol=0)
