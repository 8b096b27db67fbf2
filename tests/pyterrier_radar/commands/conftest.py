"""Files, an index and a cache for the tests of the command."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pyterrier_radar.commands.cli import DOCUMENTS, QRELS, QUERIES, succeeds, write_jsonl


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "qrels.txt").write_text(QRELS)
    return {
        "--docs": write_jsonl(folder / "docs.jsonl", *({"docno": d, "text": t} for d, t in DOCUMENTS.items())),
        "--queries": write_jsonl(folder / "queries.jsonl", *({"qid": q, "query": t} for q, t in QUERIES.items())),
        "--qrels": folder / "qrels.txt",
    }


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["RADAR_CACHE"] = str(folder)
    yield folder
    del os.environ["RADAR_CACHE"]


@pytest.fixture(scope="session")
def index(files: dict[str, Path], tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "tiny.radar"
    facts = succeeds("index", "--docs", files["--docs"], "--index", path, "--model", tiny_qwen2, "--json")
    assert json.loads(facts.stdout)["documents"] == len(DOCUMENTS)
    return path
