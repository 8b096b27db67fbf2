"""radar index: resumed, mended, and never mixed."""

import json
from pathlib import Path

import pytest

from tests.pyterrier_radar.commands.cli import radar, succeeds, write_jsonl

WINDOW = 4096


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = ({"docno": f"d{i}", "text": f"text {i}", "body": f"body {i}"} for i in range(WINDOW + 10))
    return write_jsonl(tmp_path_factory.mktemp("documents") / "docs.jsonl", *records)


@pytest.fixture(scope="module")
def broken(documents: Path) -> Path:
    lines = documents.read_text().splitlines()
    lines[WINDOW + 4] = '{"docno": "d4100", '
    path = documents.with_name("broken.jsonl")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def interrupted(broken: Path, tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("interrupted") / "x.radar"
    result = radar("index", "--docs", broken, "--text-field", "text", "--index", path, "--model", tiny_qwen2)
    assert result.exit_code == 2
    assert f"broken.jsonl:{WINDOW + 5}" in result.stderr
    return path


def test_an_interrupted_index_is_not_resumed_from_another_field(
    interrupted: Path, documents: Path, tiny_qwen2: Path
) -> None:
    result = radar("index", "--docs", documents, "--text-field", "body", "--index", interrupted, "--model", tiny_qwen2)
    assert result.exit_code == 2
    assert "begun with the text field 'text', not 'body'" in result.stderr


def test_a_mended_collection_is_finished_and_then_belongs_to_the_index(
    interrupted: Path, documents: Path, broken: Path, tiny_qwen2: Path
) -> None:
    arguments = ("--text-field", "text", "--index", interrupted, "--model", tiny_qwen2, "--json")
    facts = json.loads(succeeds("index", "--docs", documents, *arguments).stdout)
    assert facts["documents"] == WINDOW + 10
    result = radar("index", "--docs", broken, *arguments)
    assert result.exit_code == 2
    assert "index of other documents" in result.stderr
