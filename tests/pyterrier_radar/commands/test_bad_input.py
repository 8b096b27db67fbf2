"""Bad input: one clear line, exit code 2, nothing half written."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from radar_cli import describe
from tests.pyterrier_radar.commands.cli import radar

BAD_INPUT = {
    "unknown dataset": (["evaluate", "vaswanni"], "unknown dataset 'vaswanni': did you mean vaswani?"),
    "unknown provider": (["evaluate", "nobody:none"], "unknown dataset 'nobody:none'"),
    "no collection": (["evaluate"], "name either a dataset (say radar:theorems) or files"),
    "both": (["evaluate", "radar:theorems", "--qrels", "{qrels}"], "brings its own documents"),
    "unknown system": (["evaluate", "radar:theorems", "--systems", "bm25,sparse"], "unknown system 'sparse'"),
    "no system": (["evaluate", "radar:theorems", "--systems", ","], "unknown system"),
    "unknown measure": (["evaluate", "radar:theorems", "--measures", "nDGC@10"], "did you mean nDCG"),
    "no reranker": (["evaluate", "radar:theorems", "--systems", "reranked"], "needs a reranker: name one"),
    "idle reranker": (
        ["evaluate", "radar:theorems", "--systems", "bm25", "--reranker", "{reranker}"],
        "add it to --systems",
    ),
    "foreign folder": (["index", "radar:theorems", "--index", "{foreign}"], "is no RadarIndex"),
    "alpha": (["evaluate", "radar:theorems", "--alpha", "1.5"], "--alpha is the weight"),
    "unknown checkpoint": (["evaluate", "radar:theorems", "--model", "Raderspace/nope"], "unknown checkpoint"),
    "reranker as retriever": (["evaluate", "radar:theorems", "--model", "{reranker}"], "and a retriever is needed"),
    "unknown device": (["evaluate", "radar:theorems", "--device", "cuda:77"], "device"),
    "unknown dtype": (["evaluate", "radar:theorems", "--dtype", "int3"], "unknown dtype 'int3'"),
    "missing file": (["evaluate", "--docs", "gone.jsonl", "--queries", "{queries}"], "gone.jsonl: No such file"),
    "no judgements": (["evaluate", "--docs", "{docs}", "--queries", "{queries}"], "does not support get_qrels"),
    "no variant": (["evaluate", "radar:theorems", "--topics-variant", "x"], "it has one form only"),
    "bad text field": (["index", "--docs", "{docs}", "--text-field", "body", "--index", "{tmp}/i"], "no field 'body'"),
    "no index": (["search", "--index", "{tmp}/none", "--query", "x"], "there is no index at"),
    "no query": (["search", "--index", "{tmp}/none"], "one of --query, --queries and --dataset"),
    "empty query": (["search", "--index", "{index}", "--query", " "], "has an empty query"),
    "not a run": (
        ["rerank", "--run-in", "{qrels}", "--docs", "{docs}", "--queries", "{queries}", "--run", "{tmp}/o"],
        "qrels.txt:1: has 4 columns, not 6",
    ),
    "wrong kind": (
        ["rerank", "--run-in", "{qrels}", "--docs", "{docs}", "--queries", "{queries}", "--run", "{tmp}/o",
         "--kind", "reranker"],
        "radar-mini is a retriever: leave --kind out",
    ),
    "nothing to read texts from": (["rerank", "--run-in", "{qrels}", "--run", "{tmp}/o"], "give --dataset, or"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_ends_with_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    files: dict[str, Path],
    index: Path,
    tiny_qwen2_reranker: Path,
    tmp_path: Path,
) -> None:
    places = {name.strip("-"): path for name, path in files.items()}
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    places |= {"tmp": tmp_path, "foreign": foreign, "index": index, "reranker": tiny_qwen2_reranker}
    result = radar(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2
    last = result.stderr.rstrip("\n").splitlines()[-1]
    assert last.startswith("radar: ") and message in last
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_where_an_error_came_from() -> None:
    result = radar("evaluate", "vaswanni", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_a_bad_document_is_named_and_leaves_no_bm25_index(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"docno": "a", "text": "x"}\n{"docno": "b"}\n')
    (tmp_path / "q.tsv").write_text("q\tx\n")
    (tmp_path / "qrels").write_text("q 0 a 1\n")
    before = set(cache.iterdir())
    arguments = ("--docs", tmp_path / "docs.jsonl", "--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "qrels")
    result = radar("evaluate", *arguments, "--systems", "bm25")
    assert result.exit_code == 2
    assert "docs.jsonl:2: document 'b' has no field 'text'" in result.stderr
    assert set(cache.iterdir()) == before


def test_a_full_disk_is_said_in_one_line(index: Path, tmp_path: Path) -> None:
    command = ["search", "--index", str(index), "--query", "x", "--run", str(tmp_path / "runs" / "out.run")]
    done = subprocess.run(
        [sys.executable, "-m", "radar_cli", *command],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
    )
    assert done.returncode == 2
    assert "File too large" in done.stderr.rstrip().splitlines()[-1]
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_an_error_has_been_noted_with_is_said() -> None:
    error = ConnectionError("no server answers: start one")
    error.add_note("3 of 9 were answered; they are kept in answers.sqlite")
    assert describe(error).endswith("start one. 3 of 9 were answered; they are kept in answers.sqlite")
