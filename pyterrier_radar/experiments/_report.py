"""The files of an experiment: JSON, values per query, tables in Markdown and LaTeX, a figure for each split."""

import json
from pathlib import Path

from pyterrier_radar.commands import _figure
from pyterrier_radar.experiments._declarations import Split
from pyterrier_radar.experiments._results import Results
from pyterrier_radar.experiments._tables import as_latex, as_markdown, significance_markdown, tables
from torch_radar.files import replacing


def write(results: Results, output: Path) -> list[Path]:
    """Writes all files of an experiment; runs and rewritten queries are there already.

    Args:
        results: of :func:`pyterrier_radar.experiments.run` and ``compare``.
        output: the folder.

    Returns:
        the files: ``results.json``, ``per_query.csv``, ``tables.md``, ``tables.tex`` and ``figures/*.png``.
    """
    all_tables = tables(results)
    head = f"# {results.experiment.title}\n\n{describe(results)}\n"
    markdown = [head, *map(as_markdown, all_tables), significance_markdown(results)]
    content = {
        "results.json": json.dumps(results.as_dict(), indent=2) + "\n",
        "per_query.csv": results.per_query().to_csv(index=False),
        "tables.md": "\n".join(part for part in markdown if part),
        "tables.tex": "\n".join(map(as_latex, all_tables)),
    }
    files = {output / name: text.encode() for name, text in content.items()}
    files |= {output / "figures" / f"{split.name}.png": _draw(results, split) for split in results.experiment.splits}
    for path, data in files.items():
        with replacing(path) as aside:
            aside.write_bytes(data)
    return list(files)


def describe(results: Results) -> str:
    """Says in words what ran, and what was rated or answered, and paid for."""
    model = results.model
    parts = [f"Model: {model['model']} on {model['device']}, {model['dtype']}."]
    parts.append(f"Collections: {model['data']}.")
    if model["model_note"]:
        parts.append(f"Note: {model['model_note']}.")
    if model["reranker"]:
        parts.append(f"Reranker: {model['reranker']}.")
    if model["language_model"]:
        parts.append(f"Language model: {model['language_model']}.")
    counted = [cell.facts for cell in results.cells if cell.facts]
    if counted:
        total = {what: sum(facts[what] for facts in counted) for what in counted[0]}
        counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in total.items())
        parts.append(f"{results.experiment.counted.capitalize()}: {counts}.")
    return " ".join(parts)


def _draw(results: Results, split: Split) -> bytes:
    """A bar for each system and form of the queries, then the paper's rows on the same queries."""
    mine = [cell for cell in results.cells if cell.split is split]
    values = {f"{cell.queries} {cell.system}": cell.values for cell in mine}
    names = {f"{cell.queries} {cell.system}": f"{results.labels[cell.system]}, {cell.queries}" for cell in mine}
    asked = {cell.queries for cell in mine}
    published: dict[str, dict[str, float]] = {}
    for row in results.experiment.published:
        if row.queries in asked and split.paper in row.values and row.measure in split.measures:
            place = published.setdefault(f"{row.name} (paper), {row.queries}", {})
            place[row.measure] = row.values[split.paper] / 100
    title = f"{results.experiment.title}: {split.name}, {len(mine[0].values)} queries; {results.model['model']}"
    return _figure.draw(values, names, title, published)
