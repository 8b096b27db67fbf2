"""The best k documents of each query, merged as blocks of a search arrive."""

from __future__ import annotations

import threading

import numpy as np

MAX_ROWS = 1 << 32  # a row number takes the lower half of a sort key
_NO_KEY = np.iinfo(np.int64).min
_LOWEST = np.finfo(np.float32).min


class Merger:
    """The best k documents so far of each query. Blocks may come from several threads and in any order.

    ``k`` documents are kept; ``thresholds``, float32 (q,), is what a document's score must reach to be among them.

    A document is one int64 whose order is that of the score, then of the lower row: ties need no care.
    """

    def __init__(self, queries: int, k: int, block_rows: int):
        self.k = k
        self.keys = np.full((queries, self.width(k, block_rows)), _NO_KEY)
        self._lock = threading.Lock()
        self._counts = np.zeros(queries, dtype=np.int64)
        self.thresholds = np.full(queries, _LOWEST)

    @staticmethod
    def width(k: int, block_rows: int) -> int:
        """How many documents of a query are held: k, those waiting to be merged, and a block more."""
        return k + max(k // 2, 64) + block_rows

    def add(self, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
        """Take documents, (m,) each, sorted by query; at most a block for each query."""
        new = np.bincount(queries, minlength=len(self._counts))
        firsts = np.cumsum(new) - new
        keys = _keys(scores, rows)
        with self._lock:
            places = np.arange(len(queries)) + np.repeat(self._counts - firsts, new)
            self.keys[queries, places] = keys
            self._counts += new
            if self._counts.max() > self.k + max(self.k // 2, 64):
                self._merge()

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores and rows (q, k), best first, padded."""
        self._merge()
        keys = np.sort(self.keys[:, : self.k], axis=1)[:, ::-1]
        empty = keys == _NO_KEY
        return np.where(empty, np.float32(-np.inf), _scores(keys)), np.where(empty, -1, _rows(keys))

    def _merge(self) -> None:
        used = int(self._counts.max())
        if used <= self.k:
            return
        best = np.partition(self.keys[:, :used], used - self.k, axis=1)[:, used - self.k :]
        self.keys[:, : self.k] = best
        self.keys[:, self.k : used] = _NO_KEY
        self._counts[:] = self.k  # also where fewer documents were found: padding lies between them
        worst = best[:, 0]  # np.partition puts the smallest of the best first
        self.thresholds = np.where(worst == _NO_KEY, _LOWEST, _scores(worst))


def _keys(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sortable int64: the score's bits, made to order as integers do, above the row counted backwards."""
    bits = (scores + np.float32(0)).view(np.int32)  # + 0 turns −0 into 0, its equal
    return (_flipped(bits).astype(np.int64) << 32) | (MAX_ROWS - 1 - rows)


def _scores(keys: np.ndarray) -> np.ndarray:
    return _flipped((keys >> 32).astype(np.int32)).view(np.float32)


def _rows(keys: np.ndarray) -> np.ndarray:
    return MAX_ROWS - 1 - (keys & (MAX_ROWS - 1))


def _flipped(bits: np.ndarray) -> np.ndarray:
    """Negative floats order backwards by their bits: flip all but the sign. Its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
