"""A benchmark in BRIGHT's shape, made up: exclusions, long documents, no network."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("mteb") is None:
    warnings.warn(
        "tests/mteb_radar is skipped: it needs the extra mteb, pip install 'pyterrier-radar[mteb]'", stacklevel=1
    )
    collect_ignore_glob = ["test_*.py"]

TASK, LONG_TASK = "LocalTheorems", "LocalTheoremsLong"


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def bright_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 short and 12 long documents, 8 queries; two queries exclude documents that would rank high."""
    folder = tmp_path_factory.mktemp("local") / TASK
    folder.mkdir()
    subjects = ["group", "ring", "field", "graph", "matrix", "series", "measure", "vector", "prime", "circle"]
    verbs = ["divides", "bounds", "covers", "meets", "splits", "orders"]
    documents = [
        {"id": f"d{i}", "content": f"Theorem {i}: every finite {s} {v} the number {i * i + 3} of its parts."}
        for i, (s, v) in enumerate((s, v) for s in subjects for v in verbs)
    ]
    long = [{"id": f"L{i}", "content": " ".join(d["content"] for d in documents[5 * i : 5 * i + 5])} for i in range(12)]
    examples = [
        {
            "id": f"q{i}",
            "query": f"Why would a {subjects[i]} with {i + 7} parts be one that {verbs[i % 6]} something?",
            "gold_ids": [f"d{6 * i + i % 6}"],
            "gold_ids_long": [f"L{(6 * i + i % 6) // 5}"],
            "excluded_ids": [f"d{6 * i + (i + 1) % 6}", f"d{6 * i + (i + 2) % 6}"] if i in (2, 5) else ["N/A"],
        }
        for i in range(8)
    ]
    write_jsonl(folder / "documents.jsonl", documents)
    write_jsonl(folder / "long_documents.jsonl", long)
    write_jsonl(folder / "examples.jsonl", examples)
    return folder
