"""Exact top-k search over stored vectors, streamed in blocks.

A block of rows is read into float32, scored against all queries, and only the scores above each query's
running k-th best go on to be merged. Where the CPU multiplies bfloat16 natively, a block is first scored in
bfloat16, which is three times as fast, and only the documents that could still beat the k-th best within a
proven error bound get a float32 score. Every score that is returned is a float32 dot product; memory depends
on the block and on k, never on how many documents there are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from torch_radar.search_merge import MAX_ROWS, Merger
from torch_radar.vector_shards import ShardReader

FirstPass = Literal["auto", "bfloat16", "float32"]

_BLOCK_VALUES = 1 << 21  # 8 MiB of float32: stays in the last-level cache between its uses
_MAX_BLOCK_ROWS = 8192
_MAX_BATCH = 256  # queries scored in one pass over the store
_MAX_MERGE_VALUES = 1 << 23  # 64 MiB of candidates to merge
_FEW_QUERIES = 16  # below this a product is bound by memory, and a second copy of the block costs more
_RESCORED_SHARE = 6  # one document in this many: beyond it one float32 product beats scoring them singly


class Hits(NamedTuple):
    """Rankings of q queries: best first, ties by lower row; padded with row −1 and score −inf.

    ``scores`` is float32 (q, k), ``rows`` int64 (q, k).
    """

    scores: np.ndarray
    rows: np.ndarray


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


def exact_search(
    reader: ShardReader,
    queries: np.ndarray,
    k: int,
    *,
    exclude: RowLists,
    candidates: RowLists,
    device: str = "cpu",
    first_pass: FirstPass = "auto",
    block_rows: int | None = None,
) -> Hits:
    """The k rows with the largest dot product for each query.

    Args:
        reader: the stored rows.
        queries: float32 (q, d), finite.
        k: how many rows a query gets; where fewer are allowed, the rest is padding.
        exclude: rows a query must not get.
        candidates: where given, the only rows a query may get.
        device: where products are computed.
        first_pass: "bfloat16" filters documents before they are scored in float32, "float32" does not,
            "auto" takes bfloat16 where that is faster. The result is the same.
        block_rows: rows scored at once; None takes what suits a processor's cache.

    Returns:
        Hits of shape (q, k).
    """
    if len(reader) > MAX_ROWS:
        raise ValueError(f"The store holds {len(reader):,} rows; search ranks up to {MAX_ROWS:,}: split it.")
    depth = min(k, len(reader))
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    if depth == 0:
        return Hits(scores, rows)
    if block_rows is None:
        block_rows = min(max(_BLOCK_VALUES // reader.dimension, 1), _MAX_BLOCK_ROWS, len(reader))
    batch_size = min(_MAX_BATCH, max(1, _MAX_MERGE_VALUES // Merger.width(depth, block_rows)))
    with torch.inference_mode(), _full_float32():
        for start in range(0, len(queries), batch_size):
            stop = min(start + batch_size, len(queries))
            if first_pass == "auto":
                fast = device == "cpu" and stop - start >= _FEW_QUERIES and _multiplies_bfloat16()
            else:
                fast = first_pass == "bfloat16"
            batch = torch.from_numpy(queries[start:stop]).to(device)
            allowed, barred = candidates.batch(start, stop), exclude.batch(start, stop)
            merger = Merger(stop - start, depth, block_rows)
            scorer = _Scorer(batch, reader, block_rows, fast)
            for numbers, block in _blocks(reader, allowed, block_rows, device):
                hidden = _hidden(numbers, allowed, barred)
                found = scorer.score(block, hidden, merger.thresholds)
                merger.add(found.queries, numbers[found.columns], found.scores)
            scores[start:stop, :depth], rows[start:stop, :depth] = merger.ranked()
    return Hits(scores, rows)


def _blocks(
    reader: ShardReader, candidates: RowLists, block_rows: int, device: str
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """(row numbers (n,), float32 rows (n, d)) in row order: the union of the candidates, or the whole store.

    The tensor is reused from block to block.
    """
    block = torch.empty(block_rows, reader.dimension, device=device)
    wanted = np.unique(candidates.rows)
    # Single rows are read about four times slower than a run of them.
    gathered = candidates.is_given.all() and len(wanted) * 4 < len(reader)
    for start in range(0, len(wanted) if gathered else len(reader), block_rows):
        if gathered:
            numbers = wanted[start : start + block_rows]
            reader.gather(numbers, block[: len(numbers)])
        else:
            numbers = np.arange(start, min(start + block_rows, len(reader)))
            reader.read(start, start + len(numbers), block[: len(numbers)])
        yield numbers, block[: len(numbers)]


def _hidden(numbers: np.ndarray, candidates: RowLists, exclude: RowLists) -> np.ndarray | None:
    """Bool (q, n): the block's rows that a query must not get; None where that is no row at all."""
    hidden = exclude.mask(numbers) if exclude.is_given.any() else None
    if candidates.is_given.any():
        others = ~candidates.mask(numbers) & candidates.is_given[:, None]
        hidden = others if hidden is None else hidden | others
    return hidden


class _Found(NamedTuple):
    """Documents of a block that beat a query's threshold, sorted by query: (m,) each."""

    queries: np.ndarray
    columns: np.ndarray
    scores: np.ndarray


class _Scorer:
    """Scores blocks for one batch of queries, by way of bfloat16 where ``fast``.

    The device computes the products. What is picked out of them is picked on the CPU and mostly in numpy: these
    are small steps, and torch would start and stop its threads for each.
    """

    def __init__(self, queries: torch.Tensor, reader: ShardReader, block_rows: int, fast: bool):
        self._queries = queries
        self._fast = fast
        if fast:
            _accept_sparse_tensors()
            self._rounded = queries.bfloat16()
            self._block = torch.empty(block_rows, queries.shape[1], dtype=torch.bfloat16, device=queries.device)
            self._error = _first_pass_error(queries, self._rounded.float(), reader).cpu()

    def score(self, block: torch.Tensor, hidden: np.ndarray | None, thresholds: np.ndarray) -> _Found:
        """Documents of ``block`` (n, d) that are not ``hidden`` and score above ``thresholds`` (q,)."""
        if self._fast:
            survivors = self._first_pass(block, hidden, thresholds)
            if len(survivors) * _RESCORED_SHARE <= len(self._queries) * len(block):
                return self._rescored(block, survivors, thresholds)
        scores = (self._queries @ block.T).cpu().numpy()
        if hidden is not None:
            scores[hidden] = -np.inf
        above = np.flatnonzero(scores > thresholds[:, None])
        return _Found(*np.divmod(above, len(block)), scores.ravel()[above])

    def _first_pass(self, block: torch.Tensor, hidden: np.ndarray | None, thresholds: np.ndarray) -> np.ndarray:
        """Places, in a (q, n) array made flat, whose float32 score may be above the threshold."""
        rounded = self._block[: len(block)].copy_(block)
        scores = (self._rounded @ rounded.T).cpu()
        if hidden is not None:
            scores.masked_fill_(torch.from_numpy(hidden), -torch.inf)
        # The product was rounded to bfloat16 once more. Rounding never changes an order, so a comparison
        # with the equally rounded bound loses nothing.
        bounds = (torch.from_numpy(thresholds) - self._error).bfloat16()
        bounds.clamp_(min=torch.finfo(torch.bfloat16).min)  # so that hidden documents never pass
        return np.flatnonzero((scores >= bounds[:, None]).numpy())

    def _rescored(self, block: torch.Tensor, survivors: np.ndarray, thresholds: np.ndarray) -> _Found:
        queries, columns = np.divmod(survivors, len(block))
        pairs = torch.sparse_csr_tensor(
            torch.from_numpy(np.searchsorted(queries, np.arange(len(self._queries) + 1))),
            torch.from_numpy(columns),
            torch.zeros(len(columns)),
            size=(len(self._queries), len(block)),
            device=block.device,
            check_invariants=False,
        )
        sampled = torch.sparse.sampled_addmm(pairs, self._queries, block.T, beta=0.0)
        scores = sampled.values().cpu().numpy()
        kept = scores > thresholds[queries]
        return _Found(queries[kept], columns[kept], scores[kept])


def _first_pass_error(queries: torch.Tensor, rounded: torch.Tensor, reader: ShardReader) -> torch.Tensor:
    """(q,): the most by which a bfloat16 product, before its own rounding, and a float32 one may differ.

    With q', d' the rounded vectors, q·d − q'·d' = q'·(d − d') + (q − q')·d, and each term is at most the
    product of its norms. Either sum of n products then loses at most n·2⁻²⁴ of ‖q‖‖d‖ in float32.
    """
    norm = max(shard.largest_norm for shard in reader.shards)
    lost = max(shard.largest_bfloat16_error for shard in reader.shards)
    summing = 2 * reader.dimension * 2.0**-24
    length = torch.linalg.vector_norm
    bound = length(rounded, dim=1) * lost + length(queries - rounded, dim=1) * norm
    return (bound + length(queries, dim=1) * norm * summing) * 1.01  # 1.01: these norms are rounded as well


@cache
def _multiplies_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 natively; elsewhere a product in it is slower than in float32."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@cache
def _accept_sparse_tensors() -> None:
    """Let torch say once, unheard, that its CSR tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], size=(1, 1), check_invariants=False)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Products in full float32, also where the program allows TF32 or bfloat16 inside them."""
    allowed = torch.get_float32_matmul_precision()
    if allowed == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)
