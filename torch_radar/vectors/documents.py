"""What a search goes through: the documents, less those that a query must not get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from torch_radar.vectors.shards import ShardReader


@dataclass(frozen=True)
class RowLists:
    """One list of row numbers for each query, or None: as (row, query) pairs sorted by row."""

    rows: np.ndarray
    queries: np.ndarray
    is_given: np.ndarray  # bool (q,): False where the query has no list

    @classmethod
    def build(cls, lists: Sequence[np.ndarray | None]) -> RowLists:
        """Drop −1s (documents that are not stored) and sort."""
        rows = np.concatenate([np.empty(0, dtype=np.int64), *(some for some in lists if some is not None)])
        lengths = [0 if some is None else len(some) for some in lists]
        queries = np.repeat(np.arange(len(lists)), lengths)
        order = np.argsort(rows, kind="stable")
        order = order[np.searchsorted(rows[order], 0) :]
        return cls(rows[order], queries[order], np.array([some is not None for some in lists], dtype=bool))

    def batch(self, start: int, stop: int) -> RowLists:
        """The lists of queries ``start`` to ``stop``."""
        kept = (self.queries >= start) & (self.queries < stop)
        return RowLists(self.rows[kept], self.queries[kept] - start, self.is_given[start:stop])

    def mask(self, block_rows: np.ndarray) -> np.ndarray:
        """Bool (q, n): which of the block's rows are in each query's list."""
        mask = np.zeros((len(self.is_given), len(block_rows)), dtype=bool)
        near = slice(*np.searchsorted(self.rows, (block_rows[0], block_rows[-1] + 1)))
        columns = np.searchsorted(block_rows, self.rows[near])
        inside = block_rows[columns] == self.rows[near]  # a block of candidates has gaps
        mask[self.queries[near][inside], columns[inside]] = True
        return mask


@dataclass(frozen=True)
class Documents:
    """What a batch of queries is searched in: the whole store, or the union of the queries' candidates."""

    reader: ShardReader
    candidates: RowLists
    exclude: RowLists
    gathered: np.ndarray | None  # int64, ascending; None for the whole store

    @classmethod
    def build(cls, reader: ShardReader, candidates: RowLists, exclude: RowLists) -> Documents:
        """Decide whether the candidates are few enough to be read one by one."""
        wanted = np.unique(candidates.rows)
        # Single rows are read about four times slower than a run of them.
        few = candidates.is_given.all() and len(wanted) * 4 < len(reader)
        return cls(reader, candidates, exclude, wanted if few else None)

    def __len__(self) -> int:
        return len(self.reader) if self.gathered is None else len(self.gathered)

    def read(self, start: int, stop: int, out: torch.Tensor) -> np.ndarray:
        """Fill ``out`` with the documents at these places and return their row numbers."""
        if self.gathered is None:
            self.reader.read(start, stop, out)
            return np.arange(start, stop)
        self.reader.gather(self.gathered[start:stop], out)
        return self.gathered[start:stop]

    def hidden(self, rows: np.ndarray) -> np.ndarray | None:
        """Bool (q, n): which of these rows a query must not get; None where that is none at all."""
        hidden = self.exclude.mask(rows) if self.exclude.is_given.any() else None
        if self.candidates.is_given.any():
            others = ~self.candidates.mask(rows) & self.candidates.is_given[:, None]
            hidden = others if hidden is None else hidden | others
        return hidden
