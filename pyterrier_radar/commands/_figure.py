"""Figures: what each system reaches, and how sure that is."""

import io
from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd

# Okabe and Ito's palette: told apart with any colour vision, and in grey by the order of the bars
COLOURS = ("#999999", "#0072B2", "#009E73", "#E69F00", "#CC79A7")
RESAMPLES = 2000


def draw(
    values: Mapping[str, pd.DataFrame],
    labels: Mapping[str, str],
    title: str,
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> bytes:
    """Draws a bar for each system and measure, with 95% intervals of the mean over queries.

    Args:
        values: for each system a frame of values, queries in rows, measures in columns.
        labels: what to call each system.
        title: a line above the figure.
        published: values by measure of further systems, for hatched bars under the others.

    Returns:
        the figure as PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    measures = list(next(iter(values.values())).columns)
    layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12)
    published = published or {}
    rows = [*(labels[system] for system in values), *published]
    figure = Figure(figsize=(14 if published else 11, 1.9 + 0.55 * len(rows)), layout=layout)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    positions = np.arange(len(rows))[::-1]
    for panel, measure in zip(panels, measures, strict=True):
        furthest = 0.0
        for position, colour, frame in zip(positions, cycle(COLOURS), values.values(), strict=False):
            per_query = frame[measure].to_numpy(dtype=float)
            mean, (low, high) = per_query.mean(), interval(per_query)
            panel.barh(position, mean, height=0.62, color=colour)
            panel.errorbar(
                mean, position, xerr=[[mean - low], [high - mean]], color="#222222", capsize=3, linewidth=1.3
            )
            panel.annotate(
                f"{mean:.3f}", (high, position), (6, 0), textcoords="offset points", va="center", fontsize=12
            )
            furthest = max(furthest, high)
        for position, row in zip(positions[len(values) :], published.values(), strict=True):
            if measure in row:
                panel.barh(position, row[measure], height=0.62, color="white", edgecolor="#777777", hatch="///")
                place = (row[measure], position)
                panel.annotate(
                    f"{row[measure]:.3f}", place, (6, 0), textcoords="offset points", va="center", fontsize=12
                )
                furthest = max(furthest, row[measure])
        panel.set_xlim(0, 1.22 * max(furthest, 0.05))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.set_title(measure, fontsize=14, loc="left", fontweight="bold")
        panel.set_yticks(positions, rows, fontsize=12)
        panel.set_ylim(-0.7, len(rows) - 0.3)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color="#e3e3e3", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, color="#444444")
    figure.supxlabel("mean over queries; whiskers: 95% bootstrap interval", fontsize=10, color="#555555")
    target = io.BytesIO()
    canvas.print_figure(target, format="png", dpi=160)
    return target.getvalue()


def interval(per_query: np.ndarray) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a mean, the same at every call."""
    rng = np.random.default_rng(0)
    means = rng.choice(per_query, size=(RESAMPLES, len(per_query))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
