"""``radar synthesize`` as a user has it: one command from problems to a dataset, stopped, resumed, reported, shown."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radar_cli import build_app
from tests.synthesis import solver

SMALL = ["--set", "tree.rollouts=4", "--set", "tree.max_depth=4", "--set", "retriever.kind=endpoint"]
MINING = ["--set", "samples.mined_ranks=[1, 20]", "--set", "samples.negatives=4"]
CORPUS = Path(solver.__file__).with_name("theorems.jsonl")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A solver in a process of its own."""
    command = [sys.executable, "-m", "tests.synthesis.solver", "--first-token-seconds", "0.01", "--right", "0.95"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        assert server.poll() is None, "the solver ended by itself"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in solver.problems(5)))
    return path


def radar(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Stdout and stderr of a command in this process."""
    result = CliRunner().invoke(build_app(), ["synthesize", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def run_options(url: str, problems: Path, output: Path) -> list[object]:
    retriever = ["--set", f"retriever.url={url}", "--set", "retriever.model=solver"]
    return [
        "--problems", problems, "--corpus", CORPUS, "--url", url, "--model", "solver", "--output", output,
        *SMALL, *retriever, *MINING,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(url: str, problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("run")
    said, _ = radar("run", *run_options(url, problems, folder))
    assert f"{folder}: 5 of 5 problems" in said and "left" not in said
    return folder


def test_a_finished_run_is_skipped_when_it_is_resumed(finished):
    said, _ = radar("resume", finished, "--json")
    report = json.loads(said)
    assert (report["kept"], report["finished"], report["left"], report["usage"]["calls"]) == (5, 0, 0, 0)


def test_samples_report_and_views_come_of_a_run(finished, tmp_path):
    said, error = radar("samples", finished)
    assert "samples (question" in said and "not compared" in error
    made = [json.loads(line) for line in (finished / "samples" / "train.jsonl").read_text().splitlines()]
    assert {sample["query_type"] for sample in made} >= {"question", "lexical"}
    texts = {problem["id"]: problem["problem"] for problem in solver.problems(5)}
    for sample in made:
        relevant = solver.truth(texts[sample["provenance"]["problem"]]).theorems
        assert sample["positive"]["docno"] in relevant
    said, _ = radar("report", finished)
    assert "# Synthesis report" in said and "solver" in said and (finished / "report.md").is_file()
    page, _ = radar("view", finished)
    assert Path(page.strip()) == finished / "views" / "index.html"
    index = (finished / "views" / "index.html").read_bytes()
    page, _ = radar("view", finished, "--problem", "seats-0")
    assert Path(page.strip()).parent == finished / "views" / "problems"
    assert (finished / "views" / "index.html").read_bytes() == index
    radar("view", finished, "--problem", "seats-0", "--output", tmp_path / "one")
    assert len(list((tmp_path / "one" / "problems").iterdir())) == 1


def test_a_problem_that_is_not_there_is_named_and_nothing_is_shown(finished, tmp_path):
    options = ["--problem", "seats-0", "--problem", "seets-0", "--output", tmp_path / "views"]
    _, error = radar("view", finished, *options, code=2)
    assert "holds no finished problem 'seets-0'" in error and not (tmp_path / "views").exists()


def test_samples_need_no_server_for_what_is_answered_already(finished, tmp_path):
    radar("samples", finished, "--output", tmp_path / "first")
    away = ["--set", "generator.urls=['http://127.0.0.1:9/v1']", "--set", "generator.retries=0"]
    radar("samples", finished, "--output", tmp_path / "again", *away)
    first, again = ((tmp_path / name / "train.jsonl").read_bytes() for name in ("first", "again"))
    assert first == again
    new = ["--set", "seed=1", "--set", "samples.types=[llmq]", *away]
    _, error = radar("samples", finished, "--output", tmp_path / "new", *new, code=2)
    assert "no server answers (http://127.0.0.1:9/v1" in error


def test_shards_are_merged_into_the_run_that_they_are_of(url, problems, finished, tmp_path):
    for index in range(2):
        radar("run", *run_options(url, problems, tmp_path), "--shard", f"{index}/2")
    said, _ = radar("merge", tmp_path)
    assert said.strip() == f"{tmp_path}: 5 problems"
    whole, merged = (json.loads(radar("report", folder, "--json")[0]) for folder in (finished, tmp_path))
    assert merged["configurations"] == whole["configurations"] and merged["nodes"] == whole["nodes"]
    assert json.loads(radar("resume", tmp_path, "--json")[0])["finished"] == 0


def test_another_configuration_needs_another_folder(url, problems, finished):
    _, error = radar("run", *run_options(url, problems, finished), "--set", "tree.rollouts=5", code=2)
    assert "tree.rollouts was 4 and is 5" in error and "Choose another folder" in error


def test_the_key_is_nowhere_in_a_runs_folder(url, problems, tmp_path):
    radar("run", *run_options(url, problems, tmp_path), "--api-key", "sk-secret", "--set", "budget.calls=1")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"sk-secret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--model", "absent"], "doesn't have the model 'absent'"),
        (["--url", "http://127.0.0.1:9/v1"], "no server answers"),
        (["--problems", "absent.jsonl"], "absent.jsonl: No such file"),
        (["--set", "tree.rollots=3"], "did you mean tree.rollouts"),
        (["--shard", "2/2"], "write i/n with i from 0 to n-1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(url, problems, tmp_path, change, said):
    options = run_options(url, problems, tmp_path)
    if change[0] == "--url":
        options[options.index("--url") + 1] = change[1]
        change = ["--set", "generator.retries=0"]
    _, error = radar("run", *options, *change, code=2)
    assert said in error.replace("\n", " ") and error.splitlines()[-1].startswith("radar: ")


def test_a_wrong_model_is_said_before_the_corpus_is_indexed(url, problems, tmp_path):
    radar("run", *run_options(url, problems, tmp_path), "--model", "absent", code=2)
    assert not (tmp_path / "theorems").exists()


def test_bad_input_is_named_by_its_place(url, problems, tmp_path):
    lines = problems.read_text().splitlines()
    for name, last, said in (
        ("broken", '{"id": "x", "problem"', ":6: not JSON"),
        ("double", lines[0], ":6: id 'seats-0' is there already"),
        ("no-answer", '{"id": "x", "problem": "Why?"}', ":6: problem 'x' has no answer"),
    ):
        bad = tmp_path / f"{name}.jsonl"
        bad.write_text("\n".join([*lines, last]))
        _, error = radar("run", *run_options(url, bad, tmp_path / "run"), code=2)
        assert f"{bad}{said}" in error
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(CORPUS.read_text() * 2)
    _, error = radar("run", *run_options(url, problems, tmp_path / "run"), "--corpus", corpus, code=2)
    assert "is there already" in error and "corpus.jsonl:81" in error


def test_a_folder_without_a_run_is_said_to_be_one(tmp_path):
    for command in ("resume", "samples", "report", "view"):
        _, error = radar(command, tmp_path, code=2)
        assert "holds no run" in error
    _, error = radar("merge", tmp_path, code=2)
    assert "has no shards" in error


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not sent there")
def test_a_signal_ends_a_run_which_is_resumed_by_what_it_says(url, problems, tmp_path):
    slow = ["--set", "concurrency=1", "--set", "tree.rollouts=12", "--set", "tree.max_depth=6"]
    options = map(str, [*run_options(url, problems, tmp_path), *slow])
    command = [sys.executable, "-m", "radar_cli", "synthesize", "run", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("under way" in line for line in process.stderr)  # reads until it is so
    time.sleep(0.3)  # longer than the engine takes to look
    process.send_signal(signal.SIGTERM)
    said, error = process.communicate(timeout=120)
    assert process.returncode == 0 and f"left (stopped): radar synthesize resume {tmp_path}" in said
    assert "1 problems are finished first" in error
    report = json.loads(radar("resume", tmp_path, "--set", "budget.calls=1", "--json")[0])
    assert 1 <= report["kept"] < 5
