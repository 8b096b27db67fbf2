"""The report of ``radar evaluate`` and ``radar demo`` on one collection: means and times, in JSON and as a table."""

from typing import TYPE_CHECKING, Any

from radar_cli import render

if TYPE_CHECKING:
    import pandas as pd

    from pyterrier_radar.commands._systems import Systems


def summarise(bench: "Systems", values: dict[str, "pd.DataFrame"]) -> dict[str, Any]:
    """Reports the systems' means and times, with what they were made of, from their values per query."""
    from pyterrier_radar.commands._bm25 import NAMES as BM25_NAMES

    checkpoint, encoder = bench.encoder.encoder.checkpoint, bench.encoder.encoder
    rows = {}
    for name, table in values.items():
        ranking = bench.ranking(name)
        rows[name] = {
            "measures": {measure: float(table[measure].mean()) for measure in table},
            "ms_per_query": 1000 * ranking.seconds / len(bench.task.topics),
            "reused": ranking.reused,
        } | ({"ratings": ranking.facts} if ranking.facts else {})
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
        "bm25": BM25_NAMES[bench.settings.bm25],
        "bm25_depth": bench.settings.depth,
        "language_model": bench.rater.model if bench.rater else None,
        "rating_depth": bench.settings.rating_depth,
        "rating_weight": bench.settings.rating_weight,
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
        "bm25": f"BM25 ({report['bm25']})",
        "dense": f"{model} dense",
        "hybrid": f"hybrid ({report['alpha']:g} dense + {1 - report['alpha']:.2g} BM25)",
        "scored": f"{first_stage} >> {model} scoring",
        "reranked": f"{first_stage} >> RaDeR reranker",
        "rated": f"hybrid % {report['rating_depth']} + {report['rating_weight']:g} rating",
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
    if report["language_model"]:
        lines.append(f"language model: {report['language_model']}\n")
    if any(row["reused"] for row in report["systems"].values()):
        lines.append("* an earlier run, used again\n")
    return "".join(lines)
