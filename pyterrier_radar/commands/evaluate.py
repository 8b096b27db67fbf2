"""``radar evaluate``: measures systems on a test collection."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyterrier_radar.commands import _options as option
from radar_cli import Debug, Json, framed, render

if TYPE_CHECKING:
    import pandas as pd

    from pyterrier_radar.commands._systems import Systems

MEASURES = "nDCG@10 R@100"


@framed
def evaluate(
    dataset: option.Dataset = None,
    docs: option.Docs = None,
    queries: option.Queries = None,
    qrels: option.Qrels = None,
    topics_variant: option.TopicsVariant = None,
    text_field: option.TextField = None,
    empty_text: option.EmptyTextOption = "error",
    exclude_self: option.ExcludeSelf = False,
    systems: Annotated[
        str | None,
        typer.Option(
            help="Of bm25, dense, hybrid, scored, reranked, joined by commas; else the first four, and the last where "
            "a reranker is named.",
            show_default=False,
        ),
    ] = None,
    measures: Annotated[str, typer.Option(help="Names of ir_measures, joined by blanks.")] = MEASURES,
    model: option.Model = None,
    reranker: Annotated[str | None, typer.Option(help="Reranker: a Raderspace name or a folder.")] = None,
    instruction: option.Instruction = "auto",
    alpha: Annotated[float, typer.Option(help="Weight of the dense ranking in the hybrid, 0 to 1.")] = 0.8,
    bm25_depth: Annotated[int, typer.Option(min=1, help="Documents of BM25 to score or rerank.")] = 100,
    num_results: Annotated[int, typer.Option(min=1, help="Documents in a ranking.")] = 1000,
    index: Annotated[
        Path | None, typer.Option(help="Folder of the dense index; else one in the cache.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder for TREC runs; finished ones are used again.", show_default=False)
    ] = None,
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Measure BM25, RaDeR and their combinations on a test collection.

    The collection is an ir_datasets id, radar:theorems, or files. Documents judged -100 (BRIGHT's excluded ones)
    are removed from every ranking. Indexes are built once and kept in the cache.
    """
    from pyterrier_radar import RadarBiEncoder, RadarReranker
    from pyterrier_radar.commands._collection import load_task, open_collection, resolve_instruction
    from pyterrier_radar.commands._measures import parse_measures
    from pyterrier_radar.commands._runs import RunFolder
    from pyterrier_radar.commands._systems import Settings, Systems, parse_systems
    from torch_radar.checkpoints import SMALL_DEFAULT, resolve

    if systems is None:
        systems = "bm25,dense,hybrid,scored" + (",reranked" if reranker else "")
    names, wanted = parse_systems(systems, reranker=reranker), parse_measures(measures)
    if not 0 <= alpha <= 1:
        raise ValueError(f"--alpha is the weight of the dense ranking, from 0 to 1, not {alpha}")
    collection = open_collection(dataset, docs, queries, qrels, text_field=text_field, empty_text=empty_text)
    checkpoint = resolve(model or SMALL_DEFAULT)
    instruction = resolve_instruction(instruction, dataset, checkpoint)
    encoder = RadarBiEncoder(checkpoint, instruction=instruction, device=device, dtype=dtype, verbose=True)
    rerank = RadarReranker(reranker, device=device, dtype=dtype, verbose=True) if reranker else None
    task = load_task(collection, variant=topics_variant, exclude_self=exclude_self)
    bench = Systems(
        collection,
        task,
        encoder,
        rerank,
        Settings(alpha=alpha, depth=bm25_depth, num_results=num_results, index=index),
        RunFolder(run, collection.name),
        names,
    )
    report = summarise(bench, {name: values_of(bench, name, wanted) for name in names})
    return json.dumps(report, indent=2) if json_ else as_text(report)


def summarise(bench: "Systems", values: dict[str, "pd.DataFrame"]) -> dict[str, Any]:
    """Reports the systems' means and times, with what they were made of, from their values per query."""
    checkpoint, encoder = bench.encoder.encoder.checkpoint, bench.encoder.encoder
    rows = {}
    for name, table in values.items():
        ranking = bench.ranking(name)
        rows[name] = {
            "measures": {measure: float(table[measure].mean()) for measure in table},
            "ms_per_query": 1000 * ranking.seconds / len(bench.task.topics),
            "reused": ranking.reused,
        }
    return {
        "dataset": bench.collection.name,
        "queries": len(bench.task.topics),
        "model": checkpoint.name,
        "model_note": checkpoint.note,
        "reranker": bench.reranker.reranker.checkpoint.name if bench.reranker else None,
        "instruction": encoder.instruction,
        "device": str(encoder.device),
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "alpha": bench.settings.alpha,
        "bm25_depth": bench.settings.depth,
        "systems": rows,
    }


def values_of(bench: "Systems", name: str, measures: list[Any]) -> "pd.DataFrame":
    """The values of a system per query (rows) and measure (columns)."""
    from pyterrier_radar.commands._measures import per_query

    return per_query(bench.ranking(name).frame, bench.task.qrels, measures)


def labels(report: dict[str, Any]) -> dict[str, str]:
    """What each system is, in words; what is no RaDeR checkpoint is not called one."""
    from torch_radar.checkpoints import MINILM, SMALL_DEFAULT

    model = report["model"] if report["model"] in (MINILM.name, SMALL_DEFAULT.name) else "RaDeR"
    first_stage = f"BM25 % {report['bm25_depth']}"
    return {
        "bm25": "BM25",
        "dense": f"{model} dense",
        "hybrid": f"hybrid ({report['alpha']:g} dense + {1 - report['alpha']:.2g} BM25)",
        "scored": f"{first_stage} >> {model} scoring",
        "reranked": f"{first_stage} >> RaDeR reranker",
    }


def as_text(report: dict[str, Any]) -> str:
    """Lays the report out as a table, with the models named under it."""
    from rich.table import Table

    table = Table(title=f"{report['dataset']}, {report['queries']} queries", title_justify="left")
    table.add_column("system")
    first = next(iter(report["systems"].values()))
    for measure in first["measures"]:
        table.add_column(measure, justify="right")
    table.add_column("ms/query", justify="right")
    names = labels(report)
    for system, row in report["systems"].items():
        values = [f"{value:.4f}" for value in row["measures"].values()]
        table.add_row(names[system], *values, f"{row['ms_per_query']:.1f}{' *' if row['reused'] else ''}")
    lines = [render(table), f"model: {report['model']} on {report['device']}, {report['dtype']}\n"]
    if report["model_note"]:
        lines.append(f"       {report['model_note']}\n")
    if report["reranker"]:
        lines.append(f"reranker: {report['reranker']}\n")
    if any(row["reused"] for row in report["systems"].values()):
        lines.append("* an earlier run, used again\n")
    return "".join(lines)
