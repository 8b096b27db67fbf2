"""Small runs for the tests of training: data, recipes, and processes that are killed."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from training import trainer
from training.recipe import Recipe
from training.run import train
from training.trainer import read_metrics

TOPICS = ("group subgroup order", "ferry noon people wait", "continuous bounded interval maximum", "item emph naive")


def write_data(folder: Path, examples: int = 24, negatives: int = 3) -> dict[str, Path]:
    """Examples whose positive shares its words, and a collection of the same kind to evaluate on."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = [(f"d{i}", f"{TOPICS[i % 4]} number {i} " + "and so on " * (i % 7)) for i in range(examples)]
    lines = []
    for i, (docno, text) in enumerate(documents):
        # The last examples have one negative only.
        others = [documents[(i + k) % examples] for k in range(1, 1 + (negatives if i < examples - 4 else 1))]
        lines.append(
            {
                "query_id": f"q{i}",
                "query": f"about {TOPICS[i % 4]}, which is {i}?",
                "query_type": "question" if i % 2 else "theorem",
                "positive": {"docno": docno, "text": text},
                "negatives": [{"docno": d, "text": t, "origin": "neighbour"} for d, t in others],
            }
        )
    paths = {name: folder / name for name in ("examples.jsonl", "documents.jsonl", "queries.tsv", "qrels", "run")}
    paths["examples.jsonl"].write_text("".join(json.dumps(line) + "\n" for line in lines))
    paths["documents.jsonl"].write_text("".join(json.dumps({"docno": d, "text": t}) + "\n" for d, t in documents))
    paths["queries.tsv"].write_text("".join(f"q{i}\tabout {TOPICS[i % 4]}, which is {i}?\n" for i in range(8)))
    paths["qrels"].write_text("".join(f"q{i} 0 d{j} 1\n" for i in range(8) for j in range(i % 4, examples, 4)))
    paths["run"].write_text("".join(f"q{i} Q0 d{j} {j + 1} {9 - j} x\n" for i in range(8) for j in range(8)))
    return paths


def write_recipe(path: Path, weights: Path, kind: str, examples: Path, **changes: Any) -> Recipe:
    """A recipe of a few small steps, written to ``path`` and loaded."""
    settings: dict[str, Any] = {
        "kind": kind,
        "base": {
            "name": str(weights),
            "template": "query-document" if kind == "retriever" else "recovered",
            "pooling": "last_token",
        },
        "data": [{"path": str(examples / "examples.jsonl")}],
        "lora": {"rank": 4, "alpha": 16, "dropout": 0.1},
        "batch_queries": 4,
        "group_size": 3,
        "in_batch_negatives": kind == "retriever",
        "temperature": 0.05,
        "mini_batch_tokens": 128,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "precision": "float32",
        "max_query_tokens": 64,
        "max_document_tokens": 64,
        "max_pair_tokens": 128,
        "save_every": 2,
        "epochs": 2,
    }
    path.write_text(json.dumps(settings | changes))  # JSON is YAML
    return Recipe.load(path)


def write_teacher(weights: Path, data: Path, folder: Path) -> Path:
    """A retriever that can teach: an adapter, which draws random numbers when it is loaded."""
    recipe = write_recipe(folder.with_suffix(".yaml"), weights, "retriever", data, max_steps=1, warmup_steps=0)
    return train(recipe, folder)


def evaluation(data: Path, **changes: Any) -> dict[str, Any]:
    """The collection of :func:`write_data` as a recipe names it."""
    names = {"queries": str(data / "queries.tsv"), "qrels": str(data / "qrels")}
    return {"documents": [str(data / "documents.jsonl")], "every_steps": 2} | names | changes


def run(recipe: str, output: str) -> None:
    """Trains in a process of its own."""
    torch.set_num_threads(1)
    train(Recipe.load(recipe), Path(output))


def run_slowly(recipe: str, output: str) -> None:
    """Trains, but takes a minute between the files of a checkpoint and the list of them."""
    contents = trainer._contents
    trainer._contents = lambda folder: time.sleep(60) or contents(folder)
    run(recipe, output)


def start(recipe: Path, output: Path, target: Callable[[str, str], None] = run) -> BaseProcess:
    """Starts a process that trains; it is forked from a server that has imported everything once."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=target, args=(str(recipe), str(output)))
    process.start()
    return process


def kill_when(process: BaseProcess, condition: Callable[[], bool]) -> None:
    """Kills a process the moment a condition holds."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.is_alive() and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -9


def finish(process: BaseProcess) -> None:
    """Waits for a process and expects that it worked."""
    process.join(180)
    assert process.exitcode == 0


def curve(output: Path, key: str = "loss") -> list[tuple[float, float]]:
    """(step, value) of every record that has the key."""
    return [(r["step"], r[key]) for r in read_metrics(output / "metrics.jsonl") if key in r]


def weights(output: Path) -> dict[str, torch.Tensor]:
    """Whatever a finished run saved."""
    name = "adapter_model.safetensors" if (output / "adapter_model.safetensors").is_file() else "model.safetensors"
    return load_file(output / name)


if __name__ == "__main__":
    run(*sys.argv[1:])
