"""Runs of ``train`` from recipe to folder: what they make, that a kill changes nothing, what they refuse."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.training.runs import (
    curve,
    evaluation,
    finish,
    kill_when,
    run_slowly,
    start,
    weights,
    write_data,
    write_recipe,
    write_teacher,
)
from torch_radar.checkpoints import load_radar_json
from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from torch_radar.templates import QUERY_DOCUMENT, token_ids
from training import run as run_module
from training.data import DataError, read_examples
from training.evaluation import measure, retrieve
from training.model import make_trainable
from training.recipe import Recipe
from training.run import load_base, train
from training.trainer import complete_checkpoints, read_metrics

TEXTS = ["Let $G$ be a finite group", "the ferry leaves at noon", "étale", "a bounded interval " * 5]
PAIRS = [(query, document) for query in TEXTS[:2] for document in TEXTS]
KINDS = ["retriever", "reranker"]


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What a run had in memory when it saved."""
    kept: dict = {}
    save = run_module.save_trained

    def keep(recipe, loaded, checkpoint, output):
        kept.update(loaded=loaded, checkpoint=checkpoint)
        save(recipe, loaded, checkpoint, output)

    monkeypatch.setattr(run_module, "save_trained", keep)
    return kept


def outputs(kind: str, checkpoint, loaded=None) -> np.ndarray:
    if loaded is not None:
        loaded.model.eval()
    if kind == "retriever":
        return Encoder(checkpoint, loaded=loaded, max_document_tokens=64).encode_documents(TEXTS)
    return Reranker(checkpoint, loaded=loaded).score(PAIRS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [{"rank": 4, "alpha": 16, "dropout": 0.1}, None], ids=["lora", "full"])
def test_what_is_saved_is_what_was_in_memory_and_was_trained(kind, lora, base, data, tmp_path, in_memory) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, kind, data, lora=lora, learning_rate=0.003)
    untrained = tmp_path / "untrained"
    still = write_recipe(tmp_path / "s.yaml", base, kind, data, lora=None, learning_rate=1e-30, max_steps=1)
    train(still, untrained)
    output = train(recipe, tmp_path / "out")
    served = outputs(kind, str(output))
    np.testing.assert_allclose(served, outputs(kind, in_memory["checkpoint"], in_memory["loaded"]), atol=2e-6)
    assert np.abs(served - outputs(kind, str(untrained))).max() > 0.01
    losses = [loss for _, loss in curve(output)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    if lora is None:
        before = weights(untrained)
        assert all(not torch.equal(tensor, before[name]) for name, tensor in weights(output).items())
    elif kind == "reranker":
        head = next(tensor for name, tensor in weights(output).items() if name.endswith("score.weight"))
        assert not torch.equal(head, weights(untrained)["score.weight"]), "the head is trained"
    assert (output / "metrics.png").stat().st_size > 1000
    assert load_radar_json(output).kind == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_adapters_are_float32_over_a_bfloat16_base(kind, precision, base, data, tmp_path, in_memory) -> None:
    named = {"name": str(base), "pooling": "last_token", "dtype": "bfloat16"}
    named["template"] = "query-document" if kind == "retriever" else "recovered"
    settings = {"base": named, "max_steps": 2, "precision": precision, "warmup_steps": 0}
    recipe = write_recipe(tmp_path / "r.yaml", base, kind, data, **settings)
    if (kind, precision) == ("reranker", "float32"):
        with pytest.raises(DataError, match="precision: bfloat16"):
            train(recipe, tmp_path / "out")
        return
    output = train(recipe, tmp_path / "out")
    trained = {p.dtype for p in in_memory["loaded"].model.parameters() if p.requires_grad}
    frozen = {p.dtype for p in in_memory["loaded"].model.parameters() if not p.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})
    assert {tensor.dtype for tensor in weights(output).values()} == {torch.float32}
    assert np.isfinite(outputs(kind, str(output))).all()


@pytest.mark.parametrize("caching", [True, False])
def test_the_recipe_s_precision_is_the_precision_of_the_computation(caching, base, data, tmp_path) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = {"precision": precision, "max_steps": 1, "caching": caching}
        recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings)
        losses[precision] = curve(train(recipe, tmp_path / precision))[0][1]
    assert losses["float32"] != losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(("kind", "kills"), [("retriever", 5), ("reranker", 2)])
def test_a_run_that_was_killed_ends_as_one_that_was_not(kind, kills, base, data, tmp_path) -> None:
    path = tmp_path / "r.yaml"
    settings = {"checkpoints_kept": 1, "evaluation": evaluation(data, candidates=str(data / "run"))}
    if kind == "reranker":
        settings["teacher"] = {"name": str(write_teacher(base, data, tmp_path / "teacher"))}
    write_recipe(path, base, kind, data, **settings)
    finish(start(path, tmp_path / "whole"))
    killed = tmp_path / "killed"
    moments = sorted(random.Random(kind).sample(range(1, 12), kills))
    moments[0] = 1  # before the first checkpoint, when a teacher's vectors are all there is
    for step in moments:
        log = killed / "metrics.jsonl"
        kill_when(start(path, killed), lambda s=step, log=log: any(r["step"] >= s for r in read_metrics(log)))
        assert not (killed / "radar.json").exists()
    finish(start(path, killed))
    assert curve(killed) == curve(tmp_path / "whole") and len(curve(killed)) == 12
    assert curve(killed, "eval_nDCG@10") == curve(tmp_path / "whole", "eval_nDCG@10")
    ours, whole = weights(killed), weights(tmp_path / "whole")
    assert ours.keys() == whole.keys() and all(torch.equal(tensor, whole[name]) for name, tensor in ours.items())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_checkpoint_that_was_being_written_is_passed_over(base, data, tmp_path) -> None:
    path, output = tmp_path / "r.yaml", tmp_path / "out"
    recipe = write_recipe(path, base, "retriever", data, max_steps=4, checkpoints_kept=1)
    whole = train(recipe, tmp_path / "whole")
    train(write_recipe(tmp_path / "half.yaml", base, "retriever", data, max_steps=2), tmp_path / "half")
    kill_when(start(path, output, run_slowly), lambda: (output / "checkpoint-2" / "trainer_state.json").is_file())
    assert complete_checkpoints(output) == []
    train(recipe, output)
    assert curve(output) == curve(whole)
    assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(output).items())


def rerun(output: Path, recipe, monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Runs a finished run again as if it had been killed before its end; returns what it resumed from."""
    (output / "radar.json").unlink()
    resumed: list[Path | None] = []
    restore = run_module.TextModel.restore
    monkeypatch.setattr(
        run_module.TextModel, "restore", lambda self, folder: resumed.append(folder) or restore(self, folder)
    )
    train(recipe, output)
    monkeypatch.undo()
    return resumed


def test_a_damaged_checkpoint_is_passed_over(base, data, tmp_path, monkeypatch) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=6, checkpoints_kept=3)
    output = train(recipe, tmp_path / "out")
    losses, trained = curve(output), weights(output)
    assert [folder.name for folder in complete_checkpoints(output)] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    optimiser = output / "checkpoint-6" / "optimizer.pt"
    content = bytearray(optimiser.read_bytes())
    content[len(content) // 2] ^= 1  # of the same size
    optimiser.write_bytes(content)
    (output / "checkpoint-4" / "trained.safetensors").write_bytes(b"")
    assert rerun(output, recipe, monkeypatch) == [output / "checkpoint-2"]
    assert curve(output) == losses
    assert all(torch.equal(tensor, trained[name]) for name, tensor in weights(output).items())


def test_early_stopping_keeps_the_best_and_a_kill_after_it_changes_nothing(base, data, tmp_path, monkeypatch) -> None:
    settings = {"evaluation": evaluation(data, every_steps=1, patience=2), "warmup_steps": 0, "learning_rate": 1e-9}
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings)
    output = train(recipe, tmp_path / "out")
    scores, trained = curve(output, "eval_nDCG@10"), weights(output)
    assert len(scores) == 3 and scores[0][1] == scores[1][1] == scores[2][1], "steps this small change no ranking"
    assert rerun(output, recipe, monkeypatch) == [output / "checkpoint-1"], "the first of equals is the best"
    assert curve(output, "eval_nDCG@10") == scores and len(curve(output)) == 3
    assert all(torch.equal(tensor, trained[name]) for name, tensor in weights(output).items())


def test_the_best_checkpoint_is_kept_and_becomes_the_result(base, data, tmp_path) -> None:
    # Judged relevant is what training tells a query from: it gets worse, so that the best is not the last.
    qrels = tmp_path / "qrels"
    qrels.write_text("".join(f"q{i} 0 d{j} 1\n" for i in range(8) for j in range((i + 1) % 4, 24, 4)))
    settings = {"evaluation": evaluation(data, every_steps=1, qrels=str(qrels)), "checkpoints_kept": 1}
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, warmup_steps=0, max_steps=10, **settings)
    output = train(recipe, tmp_path / "out")
    scores = [score for _, score in curve(output, "eval_nDCG@10")]
    best = 1 + scores.index(max(scores))
    assert best < 10 and min(scores) < max(scores)
    assert {folder.name for folder in complete_checkpoints(output)} == {f"checkpoint-{best}", "checkpoint-10"}
    measured = run_module.evaluator_for(recipe, output / "cache")
    encoder = Encoder(str(output), max_query_tokens=64, max_document_tokens=64)
    run = retrieve(encoder, measured.documents, measured.queries)
    assert measure(run, measured.qrels)["nDCG@10"] == pytest.approx(max(scores), abs=1e-3)


def test_a_base_without_pad_or_eos_is_refused(base, data, tmp_path) -> None:
    for token in ("pad_token", "eos_token"):
        folder = tmp_path / token
        shutil.copytree(base, folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings[token] = None
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        recipe = write_recipe(tmp_path / "r.yaml", folder, "retriever", data)
        with pytest.raises(DataError, match=f"no {token.partition('_')[0]}.*tokenizer_config".replace("eos", "EOS")):
            train(recipe, tmp_path / f"out-{token}")


def test_what_does_not_fit_is_refused_before_the_first_step(base, data, tmp_path) -> None:
    def refused(message: str, kind: str = "retriever", **settings) -> None:
        with pytest.raises((DataError, ValueError), match=message):
            train(write_recipe(tmp_path / "r.yaml", base, kind, data, **settings), tmp_path / message)
        assert not (tmp_path / message / "metrics.jsonl").exists()

    refused("do not fill one batch", batch_queries=64)
    refused("reads 8192 tokens at most", max_document_tokens=9000)
    refused("leaves no room for a document", "reranker", max_pair_tokens=12)
    refused("no such linear module", lora={"targets": ["q_proj", "w_pack"]})
    (data / "strange.qrels").write_text("q0 0 d0 1\nq99 0 d1 1\n")
    refused("q99", evaluation=evaluation(data, qrels=str(data / "strange.qrels")))
    (data / "strange.run").write_text("q0 Q0 elsewhere 1 1.0 x\n")
    refused("elsewhere", "reranker", evaluation=evaluation(data, candidates=str(data / "strange.run")))


def test_texts_that_are_cut_are_counted_with_their_template(base, data, tmp_path, caplog) -> None:
    examples = read_examples(data / "examples.jsonl", cache=tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    queries = [QUERY_DOCUMENT.query(example.query) for example in examples]
    lengths = sorted(len(ids) + 1 for ids in token_ids(tokenizer, queries))
    limit = lengths[-1] - 1
    longer = sum(length > limit for length in lengths)
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=1, max_query_tokens=limit)
    with caplog.at_level(logging.WARNING, logger="training.run"):
        train(recipe, tmp_path / "out")
    assert f"{longer} of 24 sampled queries are longer than {limit} tokens" in caplog.text
    assert "positives" not in caplog.text


@pytest.mark.parametrize(("kind", "caching"), [("retriever", True), ("retriever", False), ("reranker", True)])
def test_two_processes_train_what_one_trains(kind, caching, base, tmp_path) -> None:
    data = tmp_path / "data"
    write_data(data)
    settings = {"lora": {"rank": 4, "alpha": 16, "dropout": 0.0}, "max_steps": 6, "learning_rate": 0.003}
    searched = evaluation(data, candidates=str(data / "run"))
    settings |= {"caching": caching, "mini_batch_tokens": 100, "evaluation": searched}
    if kind == "reranker":
        settings["teacher"] = {"name": str(write_teacher(base, data, tmp_path / "teacher"))}
    path = tmp_path / "r.yaml"
    one = train(write_recipe(path, base, kind, data, **settings), tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    launched = subprocess.run(
        [*launcher, "-m", "tests.training.runs", str(path), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert launched.returncode == 0, launched.stderr[-3000:]
    two = tmp_path / "two"
    assert [step for step, _ in curve(two)] == [step for step, _ in curve(one)] == list(range(1, 7))
    np.testing.assert_allclose(curve(two), curve(one), atol=1e-5)
    np.testing.assert_allclose(curve(two, "eval_nDCG@10"), curve(one, "eval_nDCG@10"))
    expected = weights(one)
    for name, tensor in weights(two).items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launcher_that_may_shard_the_model_is_refused(name, base, data, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"asks for {name}, .* launch data parallel"):
        train(write_recipe(tmp_path / "r.yaml", base, "retriever", data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_batch_that_processes_cannot_share_is_refused(base, data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run_module.PartialState(), "num_processes", 3)
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data)
    with pytest.raises(DataError, match="batch_queries 4 cannot be shared by 3 processes"):
        run_module._arguments(recipe, tmp_path, 1, run_module.load_base(recipe)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_no_network_is_touched(kind, base, data, tmp_path) -> None:
    path = tmp_path / "r.yaml"
    searched = evaluation(data, candidates=str(data / "run"))
    write_recipe(path, base, kind, data, max_steps=10, evaluation=searched)
    code = (
        "import os, socket, sys\n"
        "def refuse(*a, **k):\n    print('NETWORK', a, file=sys.stderr, flush=True); os._exit(9)\n"
        "socket.getaddrinfo = refuse; socket.socket.connect = refuse; socket.socket.connect_ex = refuse\n"
        "from tests.training.runs import run\nrun(*sys.argv[1:])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    noise = [line for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
    assert not any("loss" in line for line in noise), "no line for every step"
    assert len(noise) <= 8, "at most what transformers reports of a new head"


def test_only_the_last_layers_are_adapted_if_asked(base, data, tmp_path) -> None:
    lora = {"rank": 4, "alpha": 8, "dropout": 0, "last_layers": 1}
    output = train(write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=2, lora=lora), tmp_path / "out")
    adapted = {key.split("layers.")[1].split(".")[0] for key in load_file(output / "adapter_model.safetensors")}
    assert adapted == {"1"}
    Encoder(str(output)).encode_queries(["read back and merged"])


@pytest.mark.parametrize("last_layers", [6, 7])
def test_what_lies_outside_the_layers_is_not_among_the_last_ones(last_layers: int) -> None:
    recipe = Recipe.load("laptop", overrides=["lora.targets=[dense]", f"lora.last_layers={last_layers}"])
    loaded, _ = load_base(recipe)
    make_trainable(loaded, recipe.lora)
    adapted = {name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad}
    assert len(adapted) == 6 * 3 * 2 and not any("pooler" in name for name in adapted)
