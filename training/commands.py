"""``radar train``, ``radar mine`` and ``radar export``."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from radar_cli import Debug, Json, framed

app = typer.Typer()

_EXTRA = ("accelerate", "bm25s", "datasets", "pyarrow", "sentence_transformers", "yaml")

Kind = Literal["retriever", "reranker"]
Documents = Annotated[list[Path], typer.Option("--documents", help="Texts that the examples name by docno.")]


@app.command()
@framed
def train(
    kind: Annotated[Kind, typer.Argument(help="What the recipe trains.", show_default=False)],
    recipe: Annotated[str, typer.Argument(help="A recipe's file, or the name of one that ships.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The run's folder.", show_default=False)],
    set_: Annotated[list[str], typer.Option("--set", help="key=value, over the recipe; repeatable.")] = [],  # noqa: B006
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Train a retriever or a reranker; a run that was stopped goes on where it was."""
    _require_extra()
    from training.recipe import Recipe, RecipeError

    chosen = Recipe.load(recipe, overrides=set_)
    if chosen.kind != kind:
        raise RecipeError(f"{recipe} trains a {chosen.kind}: say radar train {chosen.kind} {recipe}")
    from training.run import METRICS_FILE
    from training.run import train as run
    from training.trainer import read_metrics

    run(chosen, output)
    records = read_metrics(output / METRICS_FILE)
    losses = [record["loss"] for record in records if "loss" in record]
    scores = [record["eval_nDCG@10"] for record in records if "eval_nDCG@10" in record]
    facts = {"run": str(output), "steps": len(losses), "first_loss": losses[0], "last_loss": losses[-1]}
    if scores:
        facts["best_nDCG@10"] = max(scores)
    if json_:
        return json.dumps(facts, indent=2)
    best = f", best nDCG@10 {max(scores):.4f}" if scores else ""
    return f"{output}: {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}{best}"


@app.command()
@framed
def mine(
    examples: Annotated[Path, typer.Argument(help="Examples (JSONL, Parquet).", show_default=False)],
    output: Annotated[Path, typer.Option(help="The file to write.", show_default=False)],
    documents: Documents = [],  # noqa: B006
    model: Annotated[list[str], typer.Option("--model", help="A checkpoint that proposes negatives; repeatable.")] = [],  # noqa: B006
    bm25: Annotated[bool, typer.Option(help="Whether BM25 proposes too.")] = True,
    negatives: Annotated[int, typer.Option(help="Negatives that each example shall have.")] = 11,
    depth: Annotated[int, typer.Option(help="The last rank that is looked at.")] = 100,
    margin: Annotated[float, typer.Option(help="Drop what scores above the positive less this share.")] = 0.05,
    ranked: Annotated[bool, typer.Option(help="For a reranker (with --negatives 99): only found positives.")] = False,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Fill up examples with hard negatives; a run that was stopped goes on where it was."""
    _require_extra()
    from torch_radar.encoder import Encoder
    from training.data import Documents, read_examples
    from training.negatives import BM25Miner, EncoderMiner, Miner, read_counts
    from training.negatives import mine as run

    cache = output.parent / "cache"
    texts = Documents.from_files(documents, cache) if documents else None
    training_set = read_examples(examples, texts, cache=cache)
    miners: list[Miner] = [BM25Miner(training_set.documents)] if bm25 else []
    for name in model:
        folder = cache / f"vectors-{Path(name).name}"
        miners.append(EncoderMiner(training_set.documents, Encoder(name, progress=True), folder))
    run(training_set, miners, negatives, output, depth=depth, margin=margin, ranked=ranked)
    counts = read_counts(output)
    return json.dumps(counts, indent=2) if json_ else f"{output}: {counts}"


@app.command()
@framed
def export(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the weights.")] = "float32",
    adapter_only: Annotated[bool, typer.Option(help="Copy the LoRA adapter instead of merging it.")] = False,
    debug: Debug = False,
) -> str:
    """Merge and verify a trained checkpoint for torch_radar, Sentence Transformers, vLLM and TEI."""
    _require_extra()
    from training.export import export as run_export

    return str(run_export(run, output, dtype=dtype, adapter_only=adapter_only))


def _require_extra() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise ImportError(f"training needs {', '.join(missing)}: pip install 'pyterrier-radar[training]'")
