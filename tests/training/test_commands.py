"""``radar mine``, ``radar train`` and ``radar export``, from a shell's point of view."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from torch_radar.encoder import Encoder

RADAR = [sys.executable, "-m", "radar_cli"]


def radar(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RADAR, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    topics = ["finite groups", "prime ideals", "flat modules", "open covers", "normal fields", "étale maps"]
    (tmp_path / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"docno": f"d{i}", "text": f"A theorem of {t}, number {i}."}) + "\n"
            for i, t in enumerate(topics * 4)
        )
    )
    path = tmp_path / "examples.jsonl"
    path.write_text(
        "".join(
            json.dumps({"query": f"which theorem is of {t}?", "positive": {"docno": f"d{i}"}, "negatives": []}) + "\n"
            for i, t in enumerate(topics)
        )
    )
    return path


def test_examples_become_a_checkpoint_in_three_commands(examples: Path, tiny_qwen2: Path, tmp_path: Path) -> None:
    mined = radar(
        *("mine", examples, "--documents", "corpus.jsonl", "--output", "mined.jsonl", "--negatives", 2, "--json"),
        cwd=tmp_path,
    )
    assert mined.returncode == 0, mined.stderr
    assert json.loads(mined.stdout)["examples"] == 6
    (tmp_path / "recipe.yaml").write_text(
        f"kind: retriever\nbase: {{name: {tiny_qwen2}, template: query-document, pooling: last_token}}\n"
        "lora: {rank: 2, alpha: 4}\ndata: [{path: mined.jsonl, documents: [corpus.jsonl]}]\nbatch_queries: 3\n"
        "group_size: 3\nprecision: float32\nmax_document_tokens: 64\nmax_query_tokens: 64\nwarmup_steps: 0\n"
        "learning_rate: 1.0e-2\n"
    )
    trained = radar("train", "retriever", "recipe.yaml", "--set", "epochs=2", "--output", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("run: 4 steps, loss ")
    exported = radar("export", "run", "--output", "mine", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    texts = ["A theorem of finite groups."]
    assert (
        abs(
            Encoder(tmp_path / "mine").encode_documents(texts) - Encoder(tmp_path / "run").encode_documents(texts)
        ).max()
        < 1e-5
    )


def test_a_wrong_recipe_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("kind: retriever\nbatch_querys: 3\n")
    result = radar("train", "retriever", "recipe.yaml", "--output", "run", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "batch_querys: unknown key; did you mean batch_queries" in result.stderr
    assert not (tmp_path / "run").exists()
    result = radar("train", "reranker", "paper-7b", "--output", "run", cwd=tmp_path)
    assert "trains a retriever" in result.stderr
