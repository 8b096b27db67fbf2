"""An experiment on Stacks and PlanetMath, put into BRIGHT's shape, with the small default model."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyterrier_radar._trec import read_run
from tests.pyterrier_radar.commands.bright_folder import write_split
from tests.pyterrier_radar.commands.cli import succeeds
from tests.synthesis.parts import served

DATA = Path(__file__).parents[4] / "shared" / "data"
DOCUMENTS, QUERIES = 150, 8


def lines(name: str) -> Iterator[dict[str, object]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} isn't here: a test of real mathematics in BRIGHT's shape")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def write_stacks(folder: Path) -> dict[str, set[str]]:
    """A statement is the query, what its proof refers to is relevant; the statement itself is excluded."""
    documents = {str(d["docno"]): str(d["text"]) for d in lines("stacks/corpus.jsonl.gz")}
    chosen = [q for q in lines("stacks/dev.jsonl.gz") if set(q["positives"]) < documents.keys()][:QUERIES]
    kept = {docno for q in chosen for docno in (*q["positives"], q["qid"]) if docno in documents}
    kept |= set(list(documents)[:DOCUMENTS])
    examples = [(q["qid"], q["query"], q["positives"], [q["qid"]]) for q in chosen]
    write_split(folder, {docno: documents[docno] for docno in documents if docno in kept}, examples)
    return {qid: set(excluded) for qid, _, _, excluded in examples}


def write_planetmath(folder: Path) -> dict[str, set[str]]:
    """A title asks for its text; the text before it, of the same letter, is excluded."""
    entries = [d for _, d in zip(range(DOCUMENTS), lines("planetmath/corpus.jsonl.gz"), strict=False)]
    documents = {str(d["docno"]): str(d["text"]) for d in entries}
    places = range(10, 10 + 10 * QUERIES, 10)
    examples = [
        (f"q{p}", f"What is meant by {entries[p]['title']}?", [entries[p]["docno"]], [entries[p - 1]["docno"]])
        for p in places
    ]
    write_split(folder, documents, examples)
    return {qid: set(excluded) for qid, _, _, excluded in examples}


def test_every_stage_runs_on_stacks_and_planetmath_with_the_small_default(tmp_path: Path) -> None:
    excluded = {
        "theoremqa-theorems": write_stacks(tmp_path / "data" / "theoremqa_theorems"),
        "biology": write_planetmath(tmp_path / "data" / "biology"),
    }
    with served() as solver:
        options = ("--data", tmp_path / "data", "--splits", "biology,theoremqa_theorems", "--output", tmp_path / "out")
        llm = ("--llm-url", solver.url, "--llm-model", solver.model, "--rating-depth", 30)
        forms = ("--queries", "original,rewritten", "--systems", "bm25,dense,hybrid,scored,rated")
        command = ("evaluate", "bright", *options, *llm, *forms, "--json")
        report = json.loads(succeeds(*command).stdout)
        asked = solver.tally.calls.total()
        again = json.loads(succeeds(*command).stdout)
        assert solver.tally.calls.total() == asked > 0, "the second run asks nothing"
    assert report["model"] == "radar-mini"
    for split, forbidden in excluded.items():
        for form, systems in report["splits"][split]["systems"].items():
            for system, row in systems.items():
                [path] = (tmp_path / "out" / "runs").glob(f"{split}-{form}.{system}.*.run.gz")
                for qid, docnos in read_run(path).groupby("qid")["docno"].agg(set).items():
                    assert not docnos & forbidden[qid]
                assert row["measures"]["R@100"] > 0
                assert again["splits"][split]["systems"][form][system]["reused"]
