"""A picture of a run: its loss and its nDCG@10 over the steps."""

from __future__ import annotations

from pathlib import Path

from training.trainer import read_metrics


def plot_metrics(metrics: Path, picture: Path) -> None:
    """Draws the loss, and beside it nDCG@10 on the held-out queries if it was measured.

    Args:
        metrics: A run's ``metrics.jsonl``.
        picture: The file to write; its suffix chooses the format.
    """
    from matplotlib.figure import Figure

    records = read_metrics(metrics)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    left = figure.subplots()
    left.set_xlabel("step")
    left.set_ylabel("loss")
    losses = [(r["step"], r["loss"]) for r in records if "loss" in r]
    left.plot(*zip(*losses, strict=True), color="tab:blue", linewidth=0.8) if losses else None
    scores = [(r["step"], r["eval_nDCG@10"]) for r in records if "eval_nDCG@10" in r]
    if scores:
        right = left.twinx()
        right.set_ylabel("nDCG@10 on held-out queries")
        right.plot(*zip(*scores, strict=True), color="tab:orange", marker="o", markersize=3)
    figure.savefig(picture)
