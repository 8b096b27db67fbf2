"""radar evaluate theoremqa-qa: accuracy known by construction, resumption, the files it writes, what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import matplotlib.image
import pytest

import torch_radar.loading
from pyterrier_radar._trec import read_run
from pyterrier_radar.experiments import read_questions
from radar_llm import CallCache
from tests.pyterrier_radar.commands.cli import radar, succeeds, write_jsonl
from tests.synthesis import solver as world
from tests.synthesis.parts import served, solver_process

QUESTIONS, READ = 30, 12
NOBODY = "http://127.0.0.1:9/v1"
BOOKISH = ("--right", 0, "--right-with-theorem", 1)  # right where all needed theorems are shown, else wrong


def write_questions(folder: Path, questions: int = QUESTIONS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        {"id": problem["id"], "Question": problem["problem"], "Answer": int(problem["answer"]), "Answer_type": kind}
        for problem, kind in zip(world.problems(questions), ["integer", None] * questions, strict=False)
    ]
    write_jsonl(folder / "documents.jsonl", *({"id": d, "content": text} for d, text in world.theorems().items()))
    write_jsonl(folder / "questions.jsonl", *records)
    return folder


def arguments(folder: Path, model: Path, output: Path, url: str, *more: object) -> list[object]:
    options = ("--data", folder, "--model", model, "--output", output, "--answer-documents", READ)
    return ["evaluate", "theoremqa-qa", *options, "--llm-model", "solver", "--llm-url", url, "--json", *more]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def solver() -> Iterator[str]:
    with solver_process(*BOOKISH) as url:
        yield url


@pytest.fixture(scope="module")
def finished(data: Path, tiny_qwen2: Path, solver: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("answers")
    more = ("--systems", "bm25,dense,hybrid", "--alpha", 0.5)
    return output, json.loads(succeeds(*arguments(data, tiny_qwen2, output, solver, *more)).stdout)


def rows(report: dict) -> dict[str, dict]:
    return report["splits"]["theoremqa"]["systems"]["original"]


def kept(output: Path, system: str) -> dict[str, dict]:
    [path] = (output / "answers").glob(f"theoremqa.{system}.*.json")
    return {row["qid"]: row for row in json.loads(path.read_text())["answers"]}


def test_a_question_is_right_exactly_where_all_needed_theorems_are_among_the_documents_read(
    finished: tuple[Path, dict],
) -> None:
    output, report = finished
    needed = {problem["id"]: world.truth(problem["problem"]).theorems for problem in world.problems(QUESTIONS)}
    assert list(rows(report)) == ["none", "bm25", "dense", "hybrid"]
    for system in ("bm25", "dense", "hybrid"):
        [path] = (output / "runs").glob(f"theoremqa-original.{system}.*.run.gz")
        run = read_run(path)
        best = run[run["rank"] < READ].groupby("qid")["docno"].agg(list).to_dict()
        answers = kept(output, system)
        assert len(answers) == QUESTIONS
        for qid, row in answers.items():
            assert row["docnos"] == best[qid]
            assert row["is_right"] == (needed[qid] <= set(best[qid])), (system, qid)
        right = sum(row["is_right"] for row in answers.values())
        assert rows(report)[system]["measures"] == {"accuracy": pytest.approx(right / QUESTIONS)}
        assert rows(report)[system]["answers"]["right"] == right
    assert 0 < rows(report)["bm25"]["answers"]["right"] < QUESTIONS
    assert rows(report)["none"]["measures"] == {"accuracy": 0.0}
    assert all(row["docnos"] == [] and row["answer"] for row in kept(output, "none").values())


def test_every_system_is_tested_against_no_retrieval(finished: tuple[Path, dict]) -> None:
    from scipy import stats

    output, report = finished
    comparisons = report["significance"]["comparisons"]
    assert [(one["system"], one["baseline"]) for one in comparisons] == [
        (system, "none") for system in ("bm25", "dense", "hybrid")
    ]
    right = [float(row["is_right"]) for row in kept(output, "bm25").values()]
    assert comparisons[0]["difference"] == pytest.approx(sum(right) / QUESTIONS)
    assert comparisons[0]["p"] == pytest.approx(stats.ttest_rel(right, [0.0] * QUESTIONS).pvalue)
    assert comparisons[0]["p_corrected"] >= comparisons[0]["p"]


def test_the_files_say_what_the_report_says(finished: tuple[Path, dict]) -> None:
    output, report = finished
    assert json.loads((output / "results.json").read_text()) == report
    assert report["language_model"] == "solver" and report["answer_documents"] == READ
    with open(output / "per_query.csv", newline="") as file:
        values = [float(r["value"]) for r in csv.DictReader(file) if r["system"] == "bm25"]
    accuracy = rows(report)["bm25"]["measures"]["accuracy"]
    assert len(values) == QUESTIONS and sum(values) / QUESTIONS == pytest.approx(accuracy)
    for name in ("tables.md", "tables.tex"):
        text = (output / name).read_text()
        assert f"{100 * accuracy:.1f}" in text and "no retrieval" in text and "BM25 (PISA)" in text
    assert (
        f"Answers: {sum(row['answers']['right'] for row in rows(report).values())} right, "
        in (output / "tables.md").read_text()
    )
    assert matplotlib.image.imread(output / "figures" / "theoremqa.png").std() > 0


def test_a_second_run_loads_no_model_and_asks_nobody(
    finished: tuple[Path, dict], data: Path, tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, report = shutil.copytree(finished[0], tmp_path / "copy"), finished[1]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(torch_radar.loading, "load", refuse)
    more = ("--systems", "bm25,dense,hybrid", "--alpha", 0.5)
    again = json.loads(succeeds(*arguments(data, tiny_qwen2, output, NOBODY, *more)).stdout)
    for system, row in rows(again).items():
        assert row["reused"] and row["measures"] == rows(report)[system]["measures"]
    # a lost stage is made again from the kept solutions, and another number of documents has to be asked for
    [path] = (output / "answers").glob("theoremqa.bm25.*.json")
    path.unlink()
    lost = json.loads(succeeds(*arguments(data, tiny_qwen2, output, NOBODY, *more)).stdout)
    assert not rows(lost)["bm25"]["reused"] and rows(lost)["bm25"]["answers"]["calls"] == 0
    assert rows(lost)["bm25"]["measures"] == rows(report)["bm25"]["measures"]
    fewer = ("--systems", "bm25", "--answer-documents", 3)
    assert radar(*arguments(data, tiny_qwen2, output, NOBODY, *fewer)).exit_code != 0


def test_a_changed_right_answer_is_judged_anew_and_nobody_is_asked(
    finished: tuple[Path, dict], data: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(finished[0], tmp_path / "copy")
    changed = write_questions(tmp_path / "changed")
    lines = [json.loads(line) for line in (changed / "questions.jsonl").read_text().splitlines()]
    lines[0]["Answer"] = int(kept(output, "none")[lines[0]["id"]]["answer"])
    write_jsonl(changed / "questions.jsonl", *lines)
    more = ("--systems", "none")
    report = json.loads(succeeds(*arguments(changed, tiny_qwen2, output, NOBODY, *more)).stdout)
    assert rows(report)["none"]["answers"]["right"] == 1 and list(rows(report)) == ["none"]
    assert report["significance"]["comparisons"] == []


def test_killed_again_and_again_it_pays_for_no_answer_twice(
    finished: tuple[Path, dict], tmp_path: Path, data: Path, tiny_qwen2: Path
) -> None:
    slow = (*BOOKISH, "--slots", 4, "--first-token-seconds", 0.15)
    with solver_process(*slow) as url:
        command = arguments(data, tiny_qwen2, tmp_path / "out", url, "--systems", "bm25")

        def start() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "radar_cli", *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"RADAR_CACHE": str(tmp_path / "cache")},
            )

        for _ in range(2):
            process, before = start(), answered(url)
            while answered(url) < before + 10:
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        while running(url):
            time.sleep(0.02)
        at_last_kill, kept_then = answered(url), in_cache(tmp_path / "out")
        assert 0 < kept_then < 2 * QUESTIONS
        done = start()
        report = json.loads(done.communicate()[0])
        assert done.returncode == 0
        # what was kept when the second process was killed is never paid for again, all else once
        assert answered(url) - at_last_kill == 2 * QUESTIONS - kept_then
        assert in_cache(tmp_path / "out") == 2 * QUESTIONS
    for system, row in rows(report).items():
        assert row["measures"] == rows(finished[1])[system]["measures"]


def in_cache(output: Path) -> int:
    with closing(CallCache(output / "answers.sqlite")) as cache:
        return len(cache)


def answered(url: str) -> int:
    return metric(url, "solver:calls_total")


def running(url: str) -> int:
    return metric(url, "vllm:num_requests_running") + metric(url, "vllm:num_requests_waiting")


def metric(url: str, name: str) -> int:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        lines = response.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith(name)).split()[-1]))


def test_questions_without_a_readable_answer_and_excluded_documents(tmp_path: Path, tiny_qwen2: Path) -> None:
    folder = write_questions(tmp_path / "data", 4)
    lines = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    needed = [sorted(world.truth(line["Question"]).theorems) for line in lines]
    for line, docnos in zip(lines, needed, strict=True):
        line["excluded_ids"] = docnos[:1]
    lines[3]["Question"] += " Give a reason. " + "word " * 2000
    write_jsonl(folder / "questions.jsonl", *lines)
    mind = world.Mind(right=1.0, broken=1.0)
    with served(mind, longest_prompt=9000) as server:
        command = arguments(folder, tiny_qwen2, tmp_path / "out", server.url, "--systems", "bm25")
        report = json.loads(succeeds(*command, "--answer-documents", 5).stdout)
    facts = rows(report)["none"]["answers"]
    assert facts["missing"] == 1 and facts["unparsable"] >= 1
    assert facts["answered"] + facts["unparsable"] + facts["missing"] == 4
    for line, docnos in zip(lines, needed, strict=True):
        assert docnos[0] not in kept(tmp_path / "out", "bm25")[line["id"]]["docnos"]
    with served(mind) as server:  # which refuses nothing
        again = rows(json.loads(succeeds(*arguments(folder, tiny_qwen2, tmp_path / "out", server.url)).stdout))
        assert again["none"]["answers"]["missing"] == 0 and server.tally.calls.total() > 0


def test_theoremqas_own_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theoremqa_test.json"
    records = [
        {"id": "a/b_1.json", "Question": "How many?", "Answer": 15, "Answer_type": "integer", "Picture": None},
        {"Question": "Which?", "Answer": "(a)", "Answer_type": "option"},
        {"Question": "Is it so?", "Answer": True, "Answer_type": "bool"},
        {"Question": "Where?", "Answer": [0.5, 2], "Answer_type": "list of float"},
        {"Question": "How far?", "Answer": "-1.5", "Answer_type": "float"},
    ]
    path.write_text(json.dumps(records))
    frame = read_questions(path)
    assert list(frame["qid"]) == ["a/b_1.json", "1", "2", "3", "4"]
    assert list(frame["gold"]) == [15, "(a)", True, [0.5, 2], "-1.5"]
    write_jsonl(tmp_path / "same.jsonl", *records)
    assert read_questions(tmp_path / "same.jsonl").equals(frame)


GOOD = {"id": "q1", "question": "How many?", "answer": 3}


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([GOOD, GOOD], "questions.jsonl:2: qid 'q1' occurs a second time"),
        ([GOOD | {"question": " "}], "questions.jsonl:1: question 'q1' has no text"),
        ([GOOD | {"answer": None}], "questions.jsonl:1: the answer of 'q1': the right answer is None"),
        ([GOOD | {"answer": "many", "answer_type": "integer"}], ":1: the answer of 'q1': 'many' is no number"),
        ([GOOD | {"answer_type": "essay"}], "there is no kind of answers 'essay'"),
        ([GOOD | {"answer_type": 7}], "the answer type of 'q1' is 7"),
        ([GOOD | {"excluded_ids": "d1"}], "excluded_ids of 'q1' must be a list"),
        ([], "questions.jsonl: holds no question"),
    ],
)
def test_broken_questions_are_named_by_their_line(
    tmp_path: Path, tiny_qwen2: Path, records: list[dict], problem: str
) -> None:
    write_jsonl(tmp_path / "questions.jsonl", *records)
    result = radar(*arguments(tmp_path, tiny_qwen2, tmp_path / "out", NOBODY, "--systems", "none"))
    assert result.exit_code == 2 and problem in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--queries", "rewritten"], "theoremqa-qa is an experiment and decides --queries itself"),
        (["--measures", "nDCG@10"], "decides --measures itself"),
        (["--systems", "bm26"], "unknown system 'bm26'"),
        (["--baseline", "dense", "--systems", "bm25"], "--baseline dense is none of the systems"),
        (["--data", "nowhere"], "nowhere has no questions: name the file questions.jsonl"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    tmp_path: Path, data: Path, tiny_qwen2: Path, more: list[str], problem: str
) -> None:
    result = radar(*arguments(data, tiny_qwen2, tmp_path / "out", NOBODY, *more))
    assert result.exit_code == 2 and problem in result.stderr, result.stderr


def test_it_needs_a_language_model(tmp_path: Path, data: Path, tiny_qwen2: Path) -> None:
    options = ("--data", data, "--model", tiny_qwen2, "--output", tmp_path)
    result = radar("evaluate", "theoremqa-qa", *options)
    assert result.exit_code == 2 and "needs a language model that answers: name one (--llm-model" in result.stderr


def test_without_files_and_network_it_says_what_to_name(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = "from pyterrier_radar.experiments import load_questions; load_questions()"
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    assert done.returncode == 1
    assert "TIGER-Lab/TheoremQA can't be loaded from the hub" in done.stderr and "(--data)" in done.stderr
