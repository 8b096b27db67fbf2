"""radar evaluate on files and on an ir_datasets collection."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import ir_datasets
import ir_measures
import pytest
from ir_datasets.formats import GenericDoc, TrecQrel

from pyterrier_radar._trec import read_run
from tests.pyterrier_radar.commands.cli import DOCUMENTS, QRELS, options, radar, succeeds, write_jsonl


def evaluate(files: dict[str, Path], model: Path, *more: object) -> dict[str, Any]:
    return json.loads(succeeds("evaluate", *options(files), "--model", model, "--json", *more).stdout)


def test_evaluate_measures_what_the_runs_say(
    files: dict[str, Path], tiny_qwen2: Path, tiny_qwen2_reranker: Path, tmp_path: Path
) -> None:
    systems = "bm25,dense,hybrid,scored,reranked"
    measures = "nDCG@3,R@5 RR(rel=2)"
    report = evaluate(
        files,
        tiny_qwen2,
        "--systems",
        systems,
        "--reranker",
        tiny_qwen2_reranker,
        "--measures",
        measures,
        "--run",
        tmp_path / "runs",
        "--alpha",
        0.6,
    )
    assert list(report["systems"]) == systems.split(",")
    qrels = [q for q in ir_measures.read_trec_qrels(QRELS) if q.relevance > -100]
    for system, row in report["systems"].items():
        [path] = (tmp_path / "runs").glob(f"*.{system}.*.run.gz")
        run = list(ir_measures.read_trec_run(gzip.decompress(path.read_bytes()).decode()))
        for name, value in row["measures"].items():
            measure = ir_measures.parse_measure(name)
            assert value == pytest.approx(ir_measures.calc_aggregate([measure], qrels, run)[measure]), (system, name)


@pytest.mark.parametrize("systems", ["bm25,dense,hybrid,scored", "scored"])
def test_excluded_documents_and_the_query_itself_are_in_no_ranking(
    files: dict[str, Path], tiny_qwen2: Path, tmp_path: Path, systems: str
) -> None:
    report = evaluate(
        files, tiny_qwen2, "--systems", systems, "--exclude-self", "--run", tmp_path, "--num-results", len(DOCUMENTS)
    )
    for system in report["systems"]:
        [path] = tmp_path.glob(f"*.{system}.*.run.gz")
        found = read_run(path).groupby("qid")["docno"].agg(set)
        assert all(qid not in docnos for qid, docnos in found.items())
        assert "lagrange" not in found.get("pigeon", set())
        if system == "dense":
            assert found["pigeon"] == set(DOCUMENTS) - {"pigeon", "lagrange"}


def test_exclusions_do_not_shorten_bm25s_ranking(files: dict[str, Path], tmp_path: Path) -> None:
    docs = write_jsonl(tmp_path / "docs.jsonl", *({"docno": f"d{i}", "text": "prime " * (i + 1)} for i in range(6)))
    (tmp_path / "q.tsv").write_text("q\tprime\n")
    (tmp_path / "qrels").write_text("q 0 d0 1\n" + "".join(f"q 0 d{i} -100\n" for i in (3, 4, 5)))
    arguments = ("--docs", docs, "--queries", tmp_path / "q.tsv", "--qrels", tmp_path / "qrels", "--num-results", 3)
    succeeds("evaluate", *arguments, "--systems", "bm25", "--run", tmp_path / "runs")
    [path] = (tmp_path / "runs").glob("*.run.gz")
    assert set(read_run(path)["docno"]) == {"d0", "d1", "d2"}


def test_scoring_the_texts_and_scoring_from_the_index_agree(files: dict[str, Path], tiny_qwen2: Path) -> None:
    alone = evaluate(files, tiny_qwen2, "--systems", "scored", "--measures", "nDCG@3 RR")
    beside = evaluate(files, tiny_qwen2, "--systems", "dense,scored", "--measures", "nDCG@3 RR")
    assert alone["systems"]["scored"]["measures"] == beside["systems"]["scored"]["measures"]


def test_a_finished_run_is_used_again_only_while_nothing_changed(
    files: dict[str, Path], tiny_qwen2: Path, tmp_path: Path
) -> None:
    def reused(*more: object) -> dict[str, bool]:
        report = evaluate(files, tiny_qwen2, "--systems", "bm25,dense,hybrid", "--run", tmp_path, *more)
        return {system: row["reused"] for system, row in report["systems"].items()}

    assert reused() == {"bm25": False, "dense": False, "hybrid": False}
    assert reused() == {"bm25": True, "dense": True, "hybrid": True}
    assert reused("--alpha", 0.5) == {"bm25": True, "dense": True, "hybrid": False}
    assert reused("--instruction", "Find the theorem. ") == {"bm25": True, "dense": False, "hybrid": False}
    assert reused("--exclude-self") == {"bm25": False, "dense": False, "hybrid": False}
    for run in tmp_path.glob("*.bm25.*.run.gz"):
        run.write_bytes(run.read_bytes()[:30])
    assert reused() == {"bm25": False, "dense": True, "hybrid": True}


def test_positives_beside_the_queries_are_enough(files: dict[str, Path], tmp_path: Path) -> None:
    queries = write_jsonl(tmp_path / "q.jsonl", {"qid": "q", "query": "subgroup order", "positives": ["lagrange"]})
    arguments = ("--docs", files["--docs"], "--queries", queries, "--systems", "bm25", "--measures", "RR", "--json")
    report = json.loads(succeeds("evaluate", *arguments).stdout)
    assert report["systems"]["bm25"]["measures"] == {"RR": 1.0}


def test_stdout_holds_the_json_and_nothing_else(files: dict[str, Path], tiny_qwen2: Path, tmp_path: Path) -> None:
    command = ["evaluate", *options(files), "--model", tiny_qwen2, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "radar_cli", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"RADAR_CACHE": str(tmp_path)},
    )
    assert set(json.loads(done.stdout)["systems"]) == {"bm25", "dense", "hybrid", "scored"}


def test_the_table_says_which_model_ran(files: dict[str, Path], tiny_qwen2: Path) -> None:
    text = succeeds("evaluate", *options(files), "--model", tiny_qwen2, "--systems", "bm25,dense").stdout
    assert "nDCG@10" in text and "ms/query" in text
    assert f"model: {tiny_qwen2} on cpu, float32" in text


@pytest.fixture(scope="module")
def toy_dataset() -> str:
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries

    class Query(NamedTuple):
        query_id: str
        text: str
        gpt4_reason: str

    class Docs(BaseDocs):
        def docs_iter(self) -> Any:
            return iter([GenericDoc(d, t) for d, t in DOCUMENTS.items()])

        def docs_cls(self) -> Any:
            return GenericDoc

        def docs_count(self) -> int:
            return len(DOCUMENTS)

    class Queries(BaseQueries):
        def queries_iter(self) -> Any:
            return iter([Query("q1", "subgroup order", "prior and likelihood")])

        def queries_cls(self) -> Any:
            return Query

    class Qrels(BaseQrels):
        def qrels_iter(self) -> Any:
            return iter([TrecQrel("q1", "bayes", 1, "0"), TrecQrel("q1", "lagrange", -100, "0")])

        def qrels_cls(self) -> Any:
            return TrecQrel

        def qrels_defs(self) -> Any:
            return {}

    name = "radar-toy"
    if name not in ir_datasets.registry:
        ir_datasets.registry.register(name, Dataset(Docs(), Queries(), Qrels()))
    return name


def test_ir_datasets_exclusions_are_removed_and_variants_are_read(toy_dataset: str, tmp_path: Path) -> None:
    def value(*more: object) -> float:
        arguments = ("evaluate", toy_dataset, "--systems", "bm25", "--measures", "RR", "--run", tmp_path, "--json")
        return json.loads(succeeds(*arguments, *more).stdout)["systems"]["bm25"]["measures"]["RR"]

    assert value() == 0.0
    assert value("--topics-variant", "gpt4_reason") == 1.0
    for path in tmp_path.glob("*.run.gz"):
        assert "lagrange" not in set(read_run(path)["docno"])


def test_an_unknown_variant_is_answered_with_those_there_are(toy_dataset: str) -> None:
    result = radar("evaluate", toy_dataset, "--topics-variant", "gpt5")
    assert result.exit_code == 2
    assert "it has text, gpt4_reason" in result.stderr
