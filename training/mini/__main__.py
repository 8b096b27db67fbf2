"""Makes radar-mini from its sources: ``python -m training.mini --help``. Every step resumes where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from radar_cli import Debug, framed
from torch_radar.checkpoints import MINILM, SMALL_DEFAULT
from torch_radar.encoder import Encoder
from training.averaging import average_adapters
from training.data import Documents, read_examples
from training.mini.data import KINDS, build, read_evaluation_texts
from training.mini.measure import HeldOut, held_out_sets
from training.mini.plain import train_plain
from training.negatives import BM25Miner, mine
from training.plan import plan_rows
from training.recipe import Recipe
from training.run import read_data, train

# Whole, lexical search loses 9 % of nDCG@10, and half 2 %: torch_radar/packaged/radar-mini/README.md.
STRENGTH = 0.5
_NEGATIVES, _DEPTH = 6, 60


@framed
def make(
    stacks: Annotated[Path, typer.Option(help="Stacks project: corpus, train and dev, .jsonl.gz.", show_default=False)],
    planetmath: Annotated[Path, typer.Option(help="PlanetMath: corpus.jsonl.gz.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Working folder.")] = Path("radar-mini"),
    exclude: Annotated[list[Path], typer.Option(help="Evaluation queries not to train on.")] = [],  # noqa: B006
    measure_on: Annotated[list[Path], typer.Option(help="Further test collections: corpus, topics, qrels.")] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(min=1, help="Runs that are averaged.")] = 1,
    strength: Annotated[float, typer.Option(help="Share of what was learnt that is kept.")] = STRENGTH,
    plain: Annotated[bool, typer.Option(help="Train the plain library recipe too, once, to compare with.")] = False,
    set_: Annotated[list[str], typer.Option("--set", help="key=value, over the recipe.")] = [],  # noqa: B006
    debug: Debug = False,
) -> str:
    """Build the data, mine negatives, train one run a seed, average them, and measure on what was held out."""
    data, cache = output / "data", output / "cache"
    counts = build(stacks, planetmath, data, evaluation_texts=read_evaluation_texts(exclude))
    overrides = [*_mined(data, cache), *set_]
    recipes = [Recipe.load("radar-mini", overrides=[*overrides, f"seed={seed}"]) for seed in range(1, seeds + 1)]
    runs = [train(recipe, output / f"seed-{recipe.seed}") for recipe in recipes]
    radar_mini = average_adapters(runs, output / "retriever", strength=strength, dtype=torch.float16)
    systems = {"base": MINILM.name} | {
        f"seed {recipe.seed}": str(run) for recipe, run in zip(recipes, runs, strict=True)
    }
    systems["radar-mini"] = str(radar_mini)
    if plain:
        systems["plain"] = str(_plain(recipes[0], cache, output / "plain"))
    results = {held_out.name: _measured(held_out, systems) for held_out in held_out_sets(data, tuple(measure_on))}
    report = json.dumps({"examples": counts, "results": results}, indent=2)
    (output / "results.json").write_text(report + "\n", encoding="utf-8")
    return report


def _mined(data: Path, cache: Path) -> list[str]:
    """Mines negatives for every kind of example, and returns the recipe's keys that name them."""
    documents = Documents.from_files([data / "documents.jsonl"], cache)
    overrides = []
    for number, kind in enumerate(KINDS):
        examples = read_examples(data / f"examples-{kind}.jsonl", documents, cache=cache)
        mined = mine(examples, [BM25Miner(documents)], _NEGATIVES, data / f"mined-{kind}.jsonl", depth=_DEPTH)
        overrides += [f"data.{number}.path={mined}", f"data.{number}.documents=[{data / 'documents.jsonl'}]"]
    return overrides


def _plain(recipe: Recipe, cache: Path, output: Path) -> Path:
    """Trains the library's plain recipe on the very pairs of a recipe, in its order."""
    training_set, weights, sources = read_data(recipe, cache)
    rows = plan_rows(
        weights,
        epochs=recipe.epochs,
        batch=recipe.batch_queries,
        seed=recipe.seed,
        sources=sources if recipe.batch_by_source else None,
    )
    return train_plain(training_set, rows, recipe.batch_queries, recipe.seed, output)


def _measured(held_out: HeldOut, systems: dict[str, str]) -> dict[str, dict[str, float]]:
    """The figures of BM25 and of every system, each reading as much of a text as radar-mini does where it is used."""
    limit = SMALL_DEFAULT.max_tokens
    measured = {"BM25": held_out.measured(held_out.bm25())}
    for name, checkpoint in systems.items():
        encoder = Encoder(checkpoint, max_query_tokens=limit, max_document_tokens=limit, progress=True)
        measured[name] = held_out.measured(held_out.dense(encoder))
    return measured


if __name__ == "__main__":
    typer.run(make)
