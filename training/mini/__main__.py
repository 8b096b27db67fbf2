"""Makes radar-mini from its sources: ``python -m training.mini --help``. Every step resumes where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from radar_cli import Debug, framed
from torch_radar.checkpoints import MINILM, SMALL_DEFAULT
from torch_radar.encoder import Encoder
from torch_radar.loading import load_tokenizer, weights_digest
from torch_radar.reranker import Reranker
from training.averaging import low_rank_average
from training.begun import begin, note_data
from training.data import Documents, read_examples, write_examples
from training.export import export
from training.latex import reading_latex
from training.mini.data import KINDS, beginning, build, read_evaluation_texts
from training.mini.measure import DEPTH, HeldOut, held_out_sets
from training.mini.plain import train_plain
from training.negatives import BM25Miner, mine
from training.plan import plan_rows
from training.recipe import Recipe, RecipeError
from training.run import read_data, train

# An adapter of 11 MB, with 93 % of the squared change of the linear layers: torch_radar/packaged/radar-mini/README.md.
_RANK = 128
# Vaswani's nDCG@10 is 3 % below the base's at full strength and 2 % at this, and problems' hardly changes.
_STRENGTH = 0.9
_LAYERS = ("query", "key", "value", "dense")
_OTHERS = 6
"""Documents of a sample for each of its queries, beside the relevant ones."""
_PAIR_TOKENS = 512
"""As many as the base has positions."""


@framed
def make(
    stacks: Annotated[Path, typer.Option(help="Stacks project: corpus, train and dev, .jsonl.gz.", show_default=False)],
    planetmath: Annotated[Path, typer.Option(help="PlanetMath: corpus.jsonl.gz.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Working folder.")] = Path("radar-mini"),
    exclude: Annotated[list[Path], typer.Option(help="Evaluation queries not to train on.")] = [],  # noqa: B006
    measure_on: Annotated[list[Path], typer.Option(help="Further test collections: corpus, topics, qrels.")] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(min=1, help="Runs of the retriever that are averaged.")] = 1,
    reranker: Annotated[bool, typer.Option(help="Train the reranker too.")] = True,
    plain: Annotated[bool, typer.Option(help="Train the plain library recipe too; its average ships.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="Measure on this many queries of each collection.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="key=value, over both recipes; teacher.… over one.")] = [],  # noqa: B006
    debug: Debug = False,
) -> str:
    """Build the data, train retriever and reranker, and measure them on what was held out.

    The retriever is the average of one run a seed, as an adapter.
    """
    data, cache = output / "data", output / "cache"
    counts = build(stacks, planetmath, data, evaluation_texts=read_evaluation_texts(exclude))
    documents = Documents.from_files([data / "documents.jsonl"], cache)
    overrides = [*name_sources(data, "examples"), *(one for one in set_ if not one.startswith("teacher"))]
    recipes = [Recipe.load("radar-mini", overrides=[*overrides, f"seed={seed}"]) for seed in range(1, seeds + 1)]
    if recipes[0].lora is not None:
        raise RecipeError("all weights are trained, and then averaged as an adapter: leave it null", "lora")
    runs = [train(recipe, output / f"seed-{recipe.seed}") for recipe in recipes]
    systems = {"base": MINILM.name} | _with_average("", recipes, runs, output / "retriever")
    if plain:
        runs = [train_plain_rows(recipe, cache, output / f"plain-{recipe.seed}") for recipe in recipes]
        systems |= _with_average("plain, ", recipes, runs, output / "plain")
    rerankers: dict[str, Path] = {}
    if reranker:
        _mine_pairs(data, documents, cache)
        retriever = output / "retriever"
        merged = output / f"merged-{weights_digest(retriever)[:8]}"  # what a reranker is trained from
        if not merged.exists():
            export(retriever, merged)
        overrides = [f"base.name={merged}", f"teacher.name={merged}", *name_sources(data, "pairs"), *set_]
        run = train(Recipe.load("radar-mini-reranker", overrides=overrides), output / "reranker-run")
        adapter = _as_adapter([run], output / "reranker", base=MINILM.name)
        rerankers = {"reranker": adapter, "reranker, all weights": run}
    results = {}
    for held_out in held_out_sets(data, tuple(measure_on)):
        part = held_out if sample is None else held_out.sample(sample, _OTHERS * sample)
        results[part.name] = _measured(part, systems, rerankers)
    report = json.dumps({"examples": counts, "results": results}, indent=2)
    (output / "results.json").write_text(report + "\n", encoding="utf-8")
    return report


def name_sources(data: Path, made: str) -> list[str]:
    """A recipe's keys that name the examples of every kind."""
    documents = data / "documents.jsonl"
    paths = [data / f"{made}-{kind}.jsonl" for kind in KINDS]
    return [f"data.{n}.path={path}" for n, path in enumerate(paths)] + [
        f"data.{n}.documents=[{documents}]" for n in range(len(paths))
    ]


def _with_average(prefix: str, recipes: list[Recipe], runs: list[Path], output: Path) -> dict[str, str]:
    """Names runs, and their average, which is written."""
    average = _as_adapter(runs, output, strength=_STRENGTH)
    named = {f"{prefix}seed {recipe.seed}": str(run) for recipe, run in zip(recipes, runs, strict=True)}
    return named | {f"{prefix}average": str(average)}


def _as_adapter(runs: list[Path], output: Path, **settings: Any) -> Path:
    return low_rank_average(runs, output, rank=_RANK, targets=_LAYERS, dtype=torch.float16, **settings)


def _mine_pairs(data: Path, documents: Documents, cache: Path) -> None:
    """Mines what the reranker is trained on: BM25's first documents, for each query whose positive is among them."""
    miner, tokenizer = BM25Miner(documents), reading_latex(load_tokenizer(MINILM))
    for kind in KINDS:
        examples = read_examples(data / f"examples-{kind}.jsonl", documents, cache=cache)
        ranked = mine(examples, [miner], DEPTH - 1, data / f"ranked-{kind}.jsonl", depth=DEPTH, ranked=True)
        shorter = (
            replace(example, query=beginning(example.query, tokenizer))
            for example in read_examples(ranked, documents, cache=cache)
        )
        write_examples(data / f"pairs-{kind}.jsonl", shorter)


def train_plain_rows(recipe: Recipe, cache: Path, output: Path) -> Path:
    """Trains the library's plain recipe on the very pairs of a recipe, in its order."""
    begin(recipe, output, "pairs-of.yaml")  # not recipe.yaml: pairs and their order are all it takes from there
    training_set, weights, sources = read_data(recipe, cache)
    rows = plan_rows(
        weights,
        epochs=recipe.epochs,
        batch=recipe.batch_queries,
        seed=recipe.seed,
        sources=sources if recipe.batch_by_source else None,
    )
    if recipe.max_steps is not None:
        rows = rows[: recipe.max_steps * recipe.batch_queries]
    note_data(recipe, output)
    return train_plain(training_set, rows, recipe.batch_queries, recipe.seed, output)


def _measured(held_out: HeldOut, systems: dict[str, str], rerankers: dict[str, Path]) -> dict[str, dict[str, float]]:
    """The figures of BM25 and of every system, each reading as much of a text as radar-mini does where it is used."""
    limit = SMALL_DEFAULT.max_tokens
    bm25 = held_out.bm25()
    measured = {"BM25": held_out.measured(bm25)}
    for name, checkpoint in systems.items():
        encoder = Encoder(checkpoint, max_query_tokens=limit, max_document_tokens=limit, progress=True)
        measured[name] = held_out.measured(held_out.dense(encoder))
    for name, folder in rerankers.items():
        reranker = Reranker(folder, max_tokens=_PAIR_TOKENS, progress=True)
        measured[f"BM25 % {DEPTH} >> {name}"] = held_out.measured(held_out.reranked(reranker, bm25))
    return measured


if __name__ == "__main__":
    typer.run(make)
