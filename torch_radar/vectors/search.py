"""Exact top-k search over stored vectors, streamed in blocks.

A block of rows is read into float32, scored against all queries, and only the scores that reach each
query's running k-th best go on to be merged. Where the CPU multiplies bfloat16 natively, a block is first scored in
bfloat16, which is three times as fast, and only the documents that could still reach the k-th best within a
proven error bound get a float32 score. Every score that is returned is a float32 dot product; memory depends
on the block and on k, never on how many documents there are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from torch_radar.threads import worker_threads
from torch_radar.vectors.documents import Documents, RowLists
from torch_radar.vectors.merge import MAX_ROWS, Merger
from torch_radar.vectors.shards import ShardReader

FirstPass = Literal["auto", "bfloat16", "float32"]

_BLOCK_VALUES = 1 << 20  # 4 MiB of float32 a thread: stays in the last-level cache between its uses
_MAX_BLOCK_ROWS = 8192
_MAX_THREADS = 16  # each holds a block of its own
_MAX_BATCH = 256  # queries scored in one pass over the store
_MAX_MERGE_VALUES = 1 << 23  # 64 MiB of candidates to merge
_FEW_QUERIES = 16  # below this a product is bound by memory, and a second copy of the block costs more
_FILTERED_SHARE = 8  # the first pass begins when about one document in this many is among the best
_CROWDED_SHARE = 4  # one survivor in this many documents: then a float32 product filters once more


class Hits(NamedTuple):
    """Rankings of q queries: best first, ties by lower row; padded with row −1 and score −inf.

    ``scores`` is float32 (q, k), ``rows`` int64 (q, k).
    """

    scores: np.ndarray
    rows: np.ndarray


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
    with _full_float32():
        for start in range(0, len(queries), batch_size):
            stop = min(start + batch_size, len(queries))
            if first_pass == "auto":
                fast = device == "cpu" and stop - start >= _FEW_QUERIES and _multiplies_bfloat16()
            else:
                fast = first_pass == "bfloat16"
            batch = torch.from_numpy(queries[start:stop]).to(device)
            documents = Documents.build(reader, candidates.batch(start, stop), exclude.batch(start, stop))
            merger = Merger(stop - start, depth, block_rows)
            _search_all(batch, documents, merger, block_rows, fast)
            scores[start:stop, :depth], rows[start:stop, :depth] = merger.ranked()
    return Hits(scores, rows)


def _search_all(queries: torch.Tensor, documents: Documents, merger: Merger, block_rows: int, fast: bool) -> None:
    """Score every block and merge what is found; on the CPU, one block a thread at a time."""
    starts = iter(range(0, len(documents), block_rows))  # shared: a thread takes the next block when it is free

    def work() -> None:
        with torch.inference_mode():
            plain = _Scorer(queries)
            filtering = _FilteringScorer(queries, documents.reader, block_rows) if fast else plain
            block = torch.empty(block_rows, queries.shape[1], device=queries.device)
            for start in starts:
                stop = min(start + block_rows, len(documents))
                rows = documents.read(start, stop, block[: stop - start])
                # At first most documents are among the best k so far, and a filter would be in the way.
                scorer = plain if start < merger.k * _FILTERED_SHARE else filtering
                found = scorer.score(block[: stop - start], documents.hidden(rows), merger.thresholds)
                merger.add(found.queries, rows[found.columns], found.scores)

    if len(documents) <= block_rows or queries.device.type != "cpu":
        work()
        return
    with worker_threads(min(_MAX_THREADS, math.ceil(len(documents) / block_rows))) as (pool, count):
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()


class _Found(NamedTuple):
    """Documents of a block that reach a query's threshold, sorted by query: (m,) each."""

    queries: np.ndarray
    columns: np.ndarray
    scores: np.ndarray


class _Scorer:
    """Scores blocks for one batch of queries in float32.

    The device computes the products; what is picked out of them is picked on the CPU.
    """

    def __init__(self, queries: torch.Tensor):
        self._queries = queries

    def score(self, block: torch.Tensor, hidden: np.ndarray | None, thresholds: np.ndarray) -> _Found:
        """Documents of ``block`` (n, d) that are not ``hidden`` and reach ``thresholds`` (q,)."""
        scores = (self._queries @ block.T).cpu().numpy()
        if hidden is not None:
            scores[hidden] = -np.inf
        found = np.flatnonzero(scores >= thresholds[:, None])
        return _Found(*np.divmod(found, len(block)), scores.ravel()[found])


class _FilteringScorer(_Scorer):
    """Scores in float32 only what a bfloat16 product cannot rule out."""

    def __init__(self, queries: torch.Tensor, reader: ShardReader, block_rows: int):
        super().__init__(queries)
        _accept_sparse_tensors()
        self._rounded = queries.bfloat16()
        self._block = torch.empty(block_rows, queries.shape[1], dtype=torch.bfloat16, device=queries.device)
        self._first_error, self._summing_error = _error_bounds(queries, self._rounded.float(), reader)

    def score(self, block: torch.Tensor, hidden: np.ndarray | None, thresholds: np.ndarray) -> _Found:
        """As in the parent. A document's score never depends on the thresholds, so neither does the ranking."""
        survivors = self._first_pass(block, hidden, thresholds)
        if len(survivors) * _CROWDED_SHARE > len(self._queries) * len(block):
            survivors = np.ravel_multi_index(
                super().score(block, hidden, thresholds - self._summing_error)[:2], (len(self._queries), len(block))
            )
        return self._rescored(block, survivors, thresholds)

    def _first_pass(self, block: torch.Tensor, hidden: np.ndarray | None, thresholds: np.ndarray) -> np.ndarray:
        """Places, in a (q, n) array made flat, whose float32 score may reach the threshold."""
        rounded = self._block[: len(block)].copy_(block)
        scores = (self._rounded @ rounded.T).cpu()
        if hidden is not None:
            scores.masked_fill_(torch.from_numpy(hidden), -torch.inf)
        # The product was rounded to bfloat16 once more. Rounding never changes an order, so a comparison
        # with the equally rounded bound loses nothing.
        bounds = torch.from_numpy(thresholds - self._first_error).bfloat16()
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
        kept = scores >= thresholds[queries]
        return _Found(queries[kept], columns[kept], scores[kept])


def _error_bounds(queries: torch.Tensor, rounded: torch.Tensor, reader: ShardReader) -> tuple[np.ndarray, np.ndarray]:
    """How far a score may be from a bfloat16 product, and from the same products summed in another order.

    The first is before that product is itself rounded; (q,) each.

    With q', d' the rounded vectors, q·d − q'·d' = q'·(d − d') + (q − q')·d, and each term is at most the
    product of its norms. A float32 sum of n products loses at most n·2⁻²⁴ of ‖q‖‖d‖.
    """
    norm = max(shard.largest_norm for shard in reader.shards)
    lost = max(shard.largest_bfloat16_error for shard in reader.shards)
    length = torch.linalg.vector_norm
    summing = length(queries, dim=1) * norm * (2 * reader.dimension * 2.0**-24)
    rounding = length(rounded, dim=1) * lost + length(queries - rounded, dim=1) * norm
    slack = 1.01  # these norms are rounded as well
    return ((rounding + summing) * slack).cpu().numpy(), (summing * slack).cpu().numpy()


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
