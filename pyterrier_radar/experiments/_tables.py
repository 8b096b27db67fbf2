"""Tables of an experiment beside the paper's rows, in Markdown and in LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyterrier_radar.experiments._declarations import Split
from pyterrier_radar.experiments._results import LEVEL, Results

MARK = "†"
_LATEX = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "α": r"$\alpha$",
    "×": r"$\times$",
    MARK: r"$^\dagger$",
}


@dataclass(frozen=True)
class Line:
    """A row of a table: its system and queries, a cell for each split, and the mean."""

    system: str
    queries: str
    cells: Sequence[str]
    mean: str


@dataclass(frozen=True)
class Table:
    """One measure of each split: columns, then the measured and the published rows."""

    title: str
    columns: Sequence[str]
    measured: Sequence[Line]
    published: Sequence[Line]


def tables(results: Results) -> list[Table]:
    """Returns a table of the main measures, and one for each further measure that the splits have."""
    most = max(len(split.measures) for split in results.experiment.splits)
    return [_table(results, place) for place in range(most)]


def _table(results: Results, place: int) -> Table:
    splits = [split for split in results.experiment.splits if place < len(split.measures)]
    measures = {split.name: split.measures[place] for split in splits}
    is_same = len(set(measures.values())) == 1
    marked = {
        (one.cell.split.name, one.cell.queries, one.cell.system) for one in results.comparisons if one.is_significant
    }
    measured = []
    for system, queries, cells in results.rows():
        values = {name: 100 * cells[name].mean(measure) for name, measure in measures.items()}
        marks = {name: MARK for name in values if place == 0 and (name, queries, system) in marked}
        label = results.labels[system]
        mean = sum(values.values()) / len(values) if is_same and len(values) > 1 else None
        measured.append(_line(label, queries, measures, values, mean, marks))
    title = f"{results.experiment.title}, {next(iter(measures.values())) if is_same else 'main measures'} × 100"
    columns = [name if is_same else f"{name} {measure}" for name, measure in measures.items()]
    return Table(title, columns, measured, _published(results, splits, measures))


def _published(results: Results, splits: Sequence[Split], measures: Mapping[str, str]) -> list[Line]:
    """The paper's rows on queries that were run; rows of one system on several measures become one."""
    asked = {cell.queries for cell in results.cells}
    names = {split.paper: split.name for split in splits if split.paper}
    merged: dict[tuple[str, str], dict[str, float]] = {}
    averages: dict[tuple[str, str], float | None] = {}
    for row in results.experiment.published:
        if row.queries not in asked or row.measure not in measures.values():
            continue
        here = {names[split]: value for split, value in row.values.items() if split in names}
        here = {name: value for name, value in here.items() if measures[name] == row.measure}
        # the printed mean is that of all of the paper's splits
        average = row.average if results.model["is_whole"] else None
        if here or average is not None:
            merged.setdefault((row.name, row.queries), {}).update(here)
            averages[row.name, row.queries] = average
    lines = []
    for (name, queries), values in merged.items():
        mean = averages[name, queries]
        if mean is None and len(set(measures.values())) == 1 and 1 < len(values) == len(measures):
            mean = sum(values.values()) / len(values)
        lines.append(_line(f"{name} (paper)", queries, measures, values, mean, {}))
    return lines


def _line(
    system: str,
    queries: str,
    columns: Mapping[str, str],
    values: Mapping[str, float],
    mean: float | None,
    marks: Mapping[str, str],
) -> Line:
    cells = [f"{values[name]:.1f}{marks.get(name, '')}" if name in values else "" for name in columns]
    return Line(system, queries, cells, "" if mean is None else f"{mean:.1f}")


def as_markdown(table: Table) -> str:
    """Lays a table out in Markdown."""
    head = ["system", "queries", *table.columns, "mean"]
    rows = [[line.system, line.queries, *line.cells, line.mean] for line in (*table.measured, *table.published)]
    ruler = ["---", "---", *["---:"] * (len(head) - 2)]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (head, ruler, *rows))
    return f"### {table.title}\n\n{body}\n"


def as_latex(table: Table) -> str:
    """Lays a table out in LaTeX, for the package booktabs."""
    head = ["system", "queries", *table.columns, "mean"]
    parts = [_latex_rows([head]), *(_latex_lines(lines) for lines in (table.measured, table.published) if lines)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(table.title)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
            r"\toprule",
            "\n\\midrule\n".join(parts),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def significance_markdown(results: Results) -> str:
    """Lists every comparison with the baseline in Markdown; "" where there is none."""
    if not results.comparisons:
        return ""
    head = "| split | queries | system | measure | difference | p | corrected p |\n|---|---|---|---|---:|---:|---:|"
    rows = [
        f"| {one.cell.split.name} | {one.cell.queries} | {results.labels[one.cell.system]} | "
        f"{one.cell.split.main_measure} | {100 * one.difference:+.1f} | {one.p:.4f} | {one.corrected:.4f}"
        f"{MARK if one.is_significant else ''} |"
        for one in results.comparisons
    ]
    title = f"### Against {results.labels[results.comparisons[0].baseline.system]}"
    return "\n".join([title, "", f"{MARK}: corrected p below {LEVEL:g}; {results.test}.", "", head, *rows]) + "\n"


def _latex_lines(lines: Sequence[Line]) -> str:
    return _latex_rows([[line.system, line.queries, *line.cells, line.mean] for line in lines])


def _latex_rows(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(" & ".join(map(_escaped, row)) + r" \\" for row in rows)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
