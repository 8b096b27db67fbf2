"""Collections in BRIGHT's shape for the tests of experiments; the reference solver's world is one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.pyterrier_radar.commands.cli import write_jsonl
from tests.synthesis import solver

QUERIES = 6


def write_split(
    folder: Path,
    documents: Mapping[str, str],
    examples: Sequence[tuple[str, str, Sequence[str], Sequence[str]]],
    rewrites: Mapping[str, str] | None = None,
) -> None:
    """Writes documents and examples (qid, query, gold, excluded), and gpt4_reason where rewrites are given."""
    folder.mkdir(parents=True)
    write_jsonl(folder / "documents.jsonl", *({"id": d, "content": text} for d, text in documents.items()))
    write_jsonl(
        folder / "examples.jsonl",
        *(
            {"id": qid, "query": query, "gold_ids": list(gold), "excluded_ids": list(excluded) or ["N/A"]}
            for qid, query, gold, excluded in examples
        ),
    )
    if rewrites:
        write_jsonl(folder / "gpt4_reason.jsonl", *({"id": qid, "query": text} for qid, text in rewrites.items()))


def write_world(folder: Path) -> dict[str, dict[str, set[str]]]:
    """Writes two splits of the solver's world: problems need theorems; returns what is excluded, by split and qid.

    Excluded is what would rank high: a theorem of the problem's own, of those that have two.
    """
    theorems = solver.theorems()
    examples, rewrites = [], {}
    for problem in solver.problems(4 * QUERIES):
        needed = sorted(solver.truth(problem["problem"]).theorems)
        if len(needed) < 2 or len(examples) == QUERIES:
            continue
        gold, excluded = needed[:-1], needed[-1:]
        examples.append((problem["id"], problem["problem"], gold, excluded))
        rewrites[problem["id"]] = " ".join(theorems[docno] for docno in needed)
    assert len(examples) == QUERIES
    for split in ("biology", "theoremqa-theorems"):
        write_split(folder / split, theorems, examples, rewrites)
    excluded = {qid: set(docnos) for qid, _, _, docnos in examples}
    return {"biology": excluded, "theoremqa-theorems": excluded}
