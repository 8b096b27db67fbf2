"""Makes radar-mini from its sources: ``python -m training.mini --help``. Every step resumes where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from radar_cli import Debug, framed
from torch_radar.encoder import Encoder
from training.data import Documents, read_examples
from training.evaluation import measure, retrieve
from training.mini.data import KINDS, build, read_dev, read_evaluation_texts
from training.negatives import BM25Miner, EncoderMiner, Miner, mine
from training.recipe import Recipe
from training.run import train

MEASURES = ("nDCG@10", "R@100")
_DEPTH = 100


@framed
def make(
    stacks: Annotated[Path, typer.Option(help="Stacks project: corpus, train and dev, .jsonl.gz.", show_default=False)],
    planetmath: Annotated[Path, typer.Option(help="PlanetMath: corpus.jsonl.gz.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Working folder.")] = Path("radar-mini"),
    exclude: Annotated[list[Path], typer.Option(help="Evaluation queries not to train on.")] = [],  # noqa: B006
    set_: Annotated[list[str], typer.Option("--set", help="key=value, over the recipe.")] = [],  # noqa: B006
    debug: Debug = False,
) -> str:
    """Build the data, mine negatives, train, and measure on what was held out."""
    data, cache = output / "data", output / "cache"
    counts = build(stacks, planetmath, data, evaluation_texts=read_evaluation_texts(exclude))
    documents = Documents.from_files([data / "documents.jsonl"], cache)
    base = Encoder("all-MiniLM-L6-v2", max_query_tokens=128, max_document_tokens=128, progress=True)
    miners: list[Miner] = [BM25Miner(documents), EncoderMiner(documents, base, cache / "vectors")]
    overrides = []
    for number, kind in enumerate(KINDS):
        examples = read_examples(data / f"examples-{kind}.jsonl", documents, cache=cache)
        mined = mine(examples, miners, 6, data / f"mined-{kind}.jsonl", depth=60)
        overrides += [f"data.{number}.path={mined}", f"data.{number}.documents=[{data / 'documents.jsonl'}]"]
    run = train(Recipe.load("radar-mini", overrides=[*overrides, *set_]), output / "retriever")
    results = {name: _evaluate(run, data, name) for name in ("stacks", "problems")}
    return json.dumps({"examples": counts, "results": results}, indent=2)


def _evaluate(run: Path, data: Path, name: str) -> dict[str, Any]:
    """Measures BM25, base and trained retriever on one held-out set."""
    documents, queries, qrels = read_dev(data, name)
    own = {qid: [qid] for qid in queries}
    ranked = BM25Miner(Documents.from_texts(documents)).rank(list(queries.values()), _DEPTH + 1)
    runs = {
        "BM25": {qid: dict(r for r in ranking if r[0] != qid) for qid, ranking in zip(queries, ranked, strict=True)}
    }
    for system, checkpoint in (("base", "all-MiniLM-L6-v2"), ("radar-mini", run)):
        encoder = Encoder(checkpoint, progress=True)
        runs[system] = retrieve(encoder, documents, queries, excluded=own, depth=_DEPTH)
    return {system: measure(found, qrels, MEASURES) for system, found in runs.items()}


if __name__ == "__main__":
    typer.run(make)
