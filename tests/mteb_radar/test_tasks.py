"""BRIGHT's rewrites as tasks; tasks from files; the paper's rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import mteb
import pytest
from datasets import Dataset

from mteb_radar import choice_task, find_benchmark, find_task, local_benchmark, local_task
from mteb_radar.encoder import base_task
from mteb_radar.predictions import Rankings, as_reranking
from mteb_radar.report import Line, as_table, bright_task
from mteb_radar.tasks import _domain, reasoning_task, those_with_splits
from radar_cli import render
from tests.mteb_radar.conftest import LONG_TASK, TASK, write_jsonl
from torch_radar.instructions import BRIGHT_REWRITES, BRIGHT_SPLITS


@pytest.mark.parametrize("rewrite", BRIGHT_REWRITES)
def test_bright_under_a_rewrite_has_the_20_tasks_of_bright(rewrite: str) -> None:
    original, ours = mteb.get_benchmark("BRIGHT(v1.1)"), find_benchmark(f"BRIGHT(v1.1).{rewrite}")
    assert [base_task(t.metadata.name) for t in ours.tasks] == [t.metadata.name for t in original.tasks]
    for mine, theirs in zip(ours.tasks, original.tasks, strict=True):
        assert mine.metadata.eval_splits == theirs.metadata.eval_splits
        assert mine.metadata.main_score == theirs.metadata.main_score
        assert mine.metadata.revision.startswith(theirs.metadata.revision)
        assert mine.metadata.revision != theirs.metadata.revision
        assert _domain(theirs.metadata.name) in BRIGHT_SPLITS


def test_a_task_of_mteb_may_have_a_dot_in_its_name() -> None:
    assert find_task("Touche2020Retrieval.v3").metadata.name == "Touche2020Retrieval.v3"
    with pytest.raises(ValueError, match=r"mteb has no task 'Touche2020Retrieval.v4'"):
        find_task("Touche2020Retrieval.v4")
    with pytest.raises(ValueError, match="BRIGHT has no rewrite 'gpt5_reason'; it has gpt4_reason"):
        find_task("BrightPonyRetrieval.gpt5_reason")


def test_a_benchmarks_tasks_are_not_those_that_mteb_shares() -> None:
    found = find_benchmark("BRIGHT(v1.1)")
    shared = mteb.get_benchmark("BRIGHT(v1.1)")
    assert [t.metadata.name for t in found.tasks] == [t.metadata.name for t in shared.tasks]
    assert not {id(task) for task in found.tasks} & {id(task) for task in shared.tasks}
    one = those_with_splits(found.tasks, ["long"])
    assert [task.eval_splits for task in one] == [["long"]] * 8
    assert all(list(task.eval_splits) == task.metadata.eval_splits for task in find_benchmark("BRIGHT(v1.1)").tasks)


def test_an_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"there is no benchmark 'BRIGHT\(v1.2\)': did you mean BRIGHT\(v1.1\)"):
        find_benchmark("BRIGHT(v1.2)")


def test_a_rewritten_task_keeps_all_but_the_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    task = find_task("BrightPonyRetrieval.gpt4_reason")
    original = type(mteb.get_task("BrightPonyRetrieval"))

    def load(self, **_: object) -> None:
        self.queries = {"standard": {"1": "short", "2": "also"}}
        self.corpus = {"standard": {"a": {"text": "x"}, "b": {"text": "y"}}}
        self.relevant_docs = {"standard": {"1": {"a": 1}, "2": {"b": 1}}}
        self.top_ranked = {"standard": {"1": ["a"], "2": ["a", "b"]}}
        self.data_loaded = True

    monkeypatch.setattr(original, "load_data", load)
    rewrites = {"1": "a long chain of thought", "2": "another"}
    monkeypatch.setattr(type(task), "_rewritten", lambda self: rewrites)
    task.load_data()
    data = task.dataset["default"]["standard"]
    assert list(data["queries"]["text"]) == list(rewrites.values())
    assert list(data["corpus"]["id"]) == ["a", "b"]
    assert data["top_ranked"]["1"] == ["a"]
    del rewrites["2"]
    with pytest.raises(ValueError, match="gpt4_reason has no query '2' of BrightPonyRetrieval"):
        reasoning_task("BrightPonyRetrieval", "gpt4_reason").load_data()


def test_a_task_in_mtebs_older_layout_becomes_a_reranking_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = find_task("BrightPonyRetrieval")

    def load(self, **_: object) -> None:
        self.queries = {"standard": {"1": "q"}}
        self.corpus = {"standard": {d: {"text": d} for d in "abcd"}}
        self.relevant_docs = {"standard": {"1": {"a": 1}}}
        self.top_ranked = {"standard": {"1": ["a", "b", "d"]}}
        self.data_loaded = True

    monkeypatch.setattr(type(task), "load_data", load)
    (tmp_path / "run.trec").write_text("1 Q0 c 1 4 x\n1 Q0 d 2 3 x\n1 Q0 a 3 2 x\n1 Q0 b 4 1 x\n")
    reranking = as_reranking(task, Rankings(tmp_path / "run.trec"), top_k=2)
    assert reranking.dataset["default"]["standard"]["top_ranked"]["1"] == ["d", "a"]  # c is excluded
    assert isinstance(reranking.dataset["default"]["standard"]["corpus"], Dataset)


def test_a_ranking_of_another_version_of_the_task_is_refused(bright_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q0 Q0 d1 1 4 x\n")
    with pytest.raises(ValueError, match=r"has no ranking for the query 'q1'"):
        as_reranking(local_task(bright_folder), Rankings(path), top_k=2)
    path.write_text("".join(f"q{i} Q0 gone 1 4 x\n" for i in range(8)))
    with pytest.raises(ValueError, match="ranks the document 'gone' for the query 'q0', which the corpus lacks"):
        as_reranking(local_task(bright_folder), Rankings(path), top_k=2)
    path.write_text("q0 Q0 d1 1 4 x\nq0 Q0 d")
    with pytest.raises(ValueError, match=r"run.trec:2 is no line of a TREC run"):
        Rankings(path)


def test_a_folder_holds_a_task_for_short_and_one_for_long_documents(bright_folder: Path) -> None:
    for folder in (bright_folder, bright_folder.parent):
        assert [task.metadata.name for task in local_benchmark(folder).tasks] == [TASK, LONG_TASK]
    short = local_task(bright_folder).dataset["default"]["standard"]
    assert len(short["top_ranked"]["q0"]) == 60
    assert len(short["top_ranked"]["q2"]) == 58
    assert local_task(bright_folder, long=True).dataset["default"]["long"]["top_ranked"] is not None


@pytest.mark.parametrize(
    ("documents", "examples", "message"),
    [
        ([{"id": "a", "content": None}], [], r"documents.jsonl:1: content is None"),
        ([{"id": "a", "content": ""}] * 2, [], r"documents.jsonl:2: the id 'a' occurs twice"),
        ([{"id": "a", "content": ""}], [{"id": "q", "query": "x", "gold_ids": ["z"]}], r"document 'z' is not in"),
        ([{"id": "a", "content": ""}], [{"id": "q", "query": "x"}], r"examples.jsonl:1: gold_ids is None"),
        ([{"id": "a", "content": ""}], [], "has no example"),
        (
            [{"id": "a", "content": ""}],
            [{"id": "q", "query": "x", "gold_ids": ["a"], "excluded_ids": "d3"}],
            "examples.jsonl:1: excluded_ids is 'd3'",
        ),
        (
            [{"id": "a", "content": ""}],
            [{"id": "q", "query": "x", "gold_ids": ["a"], "excluded_ids": ["N/A", "z"]}],
            "examples.jsonl:1: document 'z' is not in",
        ),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, documents: list, examples: list, message: str) -> None:
    write_jsonl(tmp_path / "documents.jsonl", documents)
    write_jsonl(tmp_path / "examples.jsonl", examples)
    with pytest.raises(ValueError, match=message):
        local_task(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("examples.jsonl", b'{"id": "\xff"}\n'),
        ("examples.jsonl.gz", gzip.compress(b'{"id": "q1"}\n' * 99, mtime=0)[:20]),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "documents.jsonl").write_text(json.dumps({"id": "d1", "content": "a theorem"}) + "\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}:1: .*(UTF-8|copy it again)"):
        local_task(tmp_path)


def test_choices_become_one_corpus_of_distinct_candidates(tmp_path: Path) -> None:
    path = tmp_path / "arc.csv"
    path.write_text("queries,documents,labels\nwhat?,\"['a', 'b ']\",1\nwhy?,\"['b', 'c']\",0\n")
    data = choice_task(path).dataset["default"]["test"]
    assert list(data["corpus"]["text"]) == ["a", "b", "c"]
    assert data["relevant_docs"] == {"q1": {"c1": 1}, "q2": {"c1": 1}}
    for broken in ("\"__import__('os')\",1", "\"['a', 'b']\",-1", "'ab',1"):
        path.write_text(f"queries,documents,labels\nwhat?,{broken}\n")
        with pytest.raises(ValueError, match="arc.csv, row 1: needs"):
            choice_task(path)
    path.write_text("queries,documents,labels\nwhy?," + "x" * 200_000 + ",1\n")
    with pytest.raises(ValueError, match=r"arc.csv:2: field larger than"):
        choice_task(path)
    path.write_text("queries,documents,labels\n")
    with pytest.raises(ValueError, match="arc.csv has no row"):
        choice_task(path)


def test_the_papers_splits_are_mtebs_short_tasks() -> None:
    assert {bright_task(split) for split in BRIGHT_SPLITS} == {
        t.metadata.name for t in mteb.get_benchmark("BRIGHT(v1.1)").tasks if "Long" not in t.metadata.name
    }
    assert all(_domain(bright_task(split)) == split for split in BRIGHT_SPLITS)


def test_a_reports_means_are_of_one_measure() -> None:
    tasks = ["BrightPonyRetrieval", "BrightBiologyRetrieval", "BrightPonyLongRetrieval"]
    whole = Line("whole", "measured", dict(zip(tasks, (10.0, 20.0, 90.0), strict=True)))
    part = Line("part", "paper", {tasks[0]: 30.0})
    text = render(as_table(tasks, [whole, part])).replace("│", " ").replace("┃", " ")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()[:1]}
    assert rows["whole"] == ["measured", "10.0", "20.0", "90.0", "15.0", "90.0"]
    assert rows["part"] == ["paper", "30.0"]
