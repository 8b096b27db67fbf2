"""What a run will read, decided before its first step: which rows, in which order, with which negatives.

Everything follows from the seed and a row's position in the plan, never from how many random numbers were drawn
before. So a run that was killed reads, when resumed, exactly what it would have read.
"""

from __future__ import annotations

import numpy as np


def plan_rows(
    weights: np.ndarray, *, epochs: float, batch: int, seed: int, sources: np.ndarray | None = None
) -> np.ndarray:
    """Lays out the rows of a whole run.

    Args:
        weights: float (n,), how often an epoch visits each row: 1 once, 2 twice, 0.5 with probability one half.
        epochs: How many epochs; the last may be a part of one.
        batch: Rows of one update.
        seed: Decides order and chance.
        sources: int (n,); if given, every batch holds rows of one source only, so that a source's rows are told
            from each other and not from another subject's.

    Returns:
        int64 (updates × batch,) row numbers; what does not fill a batch is left out of its epoch.
    """
    parts = []
    remaining = epochs
    epoch = 0
    while remaining > 0:
        rng = np.random.default_rng([seed, epoch])
        copies = np.floor(weights).astype(np.int64) + (rng.random(len(weights)) < weights % 1)
        rows = rng.permutation(np.repeat(np.arange(len(weights)), copies))
        groups = [rows] if sources is None else [rows[sources[rows] == s] for s in np.unique(sources)]
        batches = [batch_rows for group in groups for batch_rows in _full_batches(group, batch)]
        if not batches:
            break
        order = rng.permutation(len(batches))[: round(min(1.0, remaining) * len(batches))]
        parts += [batches[i] for i in order]
        remaining -= 1
        epoch += 1
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _full_batches(rows: np.ndarray, batch: int) -> list[np.ndarray]:
    full = len(rows) // batch * batch
    return np.split(rows[:full], full // batch) if full else []


def choose(count: int, how_many: int, *, seed: int, position: int) -> np.ndarray:
    """Chooses ``how_many`` of ``count`` negatives for one position of the plan, all if there are no more.

    Returns:
        int64 indices below ``count``, each once.
    """
    if count <= how_many:
        return np.arange(count)
    return np.random.default_rng([seed, position]).choice(count, how_many, replace=False)
