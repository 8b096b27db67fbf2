"""Results beside the paper's rows and beside other models' results, as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mteb_radar.results import ModelResults
from torch_radar import paper
from torch_radar.files import replacing
from torch_radar.instructions import BRIGHT_SPLITS

if TYPE_CHECKING:
    from rich.table import Table

_TEXT_FIELDS = ("task", "system", "source", "score")


@dataclass(frozen=True)
class Line:
    """A system's scores.

    Attributes:
        system: Its name.
        source: Where the scores are from: "measured", "paper" or "peer".
        scores: Main score × 100 of each task it has one for.
    """

    system: str
    source: str
    scores: Mapping[str, float]

    def mean(self, tasks: Sequence[str]) -> float | None:
        """The mean over tasks; None unless there is a score for every one."""
        if not tasks or not all(task in self.scores for task in tasks):
            return None
        return sum(self.scores[task] for task in tasks) / len(tasks)


def lines(measured: Sequence[ModelResults], peers: Sequence[ModelResults] = ()) -> tuple[list[str], list[Line]]:
    """Collects what there is to compare on the tasks that were measured.

    The paper's rows come in where they have one of these tasks, with the same queries: a task with rewritten queries
    meets the row on rewritten queries.

    Returns:
        The tasks that were measured, and a line for each system that has one of them.
    """
    tasks = sorted({task for results in measured for task in results.tasks}, key=_order)
    found = [_line(results, "measured") for results in measured]
    for row in paper.BRIGHT:
        ending = "" if row.queries == paper.ORIGINAL else f".{row.queries}"
        scores = {f"{bright_task(split)}{ending}": value for split, value in row.values.items()}
        found.append(Line(row.name, "paper", scores))
    found += [_line(results, "peer") for results in peers]
    return tasks, [line for line in found if any(task in line.scores for task in tasks)]


def as_table(tasks: Sequence[str], found: Sequence[Line]) -> Table:
    """Lays lines out: one row a system, one column a task, and means where a system has every task.

    BRIGHT's long tasks are measured by recall@1 and have a mean of their own.
    """
    from rich.table import Table

    table = Table(title="main score × 100", title_justify="left")
    table.add_column("system")
    table.add_column("source")
    for task in tasks:
        table.add_column(_short(task), justify="right")
    long = [task for task in tasks if "LongRetrieval" in task]
    groups = {"mean": [task for task in tasks if task not in long], "mean, long": long}
    groups = {name: group for name, group in groups.items() if group}
    for name in groups:
        table.add_column(name, justify="right")
    for line in found:
        scores = [line.scores.get(task) for task in tasks] + [line.mean(group) for group in groups.values()]
        table.add_row(line.system, line.source, *("" if score is None else f"{score:.1f}" for score in scores))
    return table


def write_csv(tasks: Sequence[str], found: Sequence[Line], path: Path) -> None:
    """Writes the same as CSV: task, system, source, score × 100."""
    import csv

    with replacing(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_TEXT_FIELDS)
        writer.writerows(
            (task, line.system, line.source, f"{line.scores[task]:.3f}")
            for line in found
            for task in tasks
            if task in line.scores
        )


def draw(tasks: Sequence[str], found: Sequence[Line], path: Path) -> None:
    """Draws the scores as a PNG: tasks downwards, a mark for each system."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.35 * len(tasks) + 0.2 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    marks = {"measured": "o", "paper": "D", "peer": "x"}
    for line in found:
        places = [(line.scores[task], -row) for row, task in enumerate(tasks) if task in line.scores]
        axes.scatter(*zip(*places, strict=True), marker=marks[line.source], label=f"{line.system} ({line.source})")
    axes.set_yticks([-row for row in range(len(tasks))], [_short(task) for task in tasks])
    axes.set_xlabel("main score × 100")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=150)


def bright_task(split: str) -> str:
    """Returns mteb's name of a BRIGHT split's task: earth_science is ``BrightEarthScienceRetrieval``."""
    words = "".join(word.capitalize() for word in split.split("_"))
    return f"Bright{words.replace('Theoremqa', 'TheoremQA')}Retrieval"


def _line(results: ModelResults, source: str) -> Line:
    return Line(results.name, source, {name: 100 * float(task.get_score()) for name, task in results.tasks.items()})


def _short(task: str) -> str:
    return task.removeprefix("Bright").replace("Retrieval", "")


def _order(task: str) -> tuple[int, str]:
    original = task.partition(".")[0]
    in_paper = [bright_task(split) for split in BRIGHT_SPLITS]
    return (in_paper.index(original) if original in in_paper else len(in_paper), task)
