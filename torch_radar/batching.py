"""Token-budget batches: sort by length, fill each batch up to a number of tokens, survive running out of memory.

Texts differ in length by two orders of magnitude, so batches of a fixed number of texts spend most of their work
on padding. Here a batch is a set of rows of similar length whose padded size stays within a budget of tokens; the
longest rows go first, so a budget that is too large fails at once, is halved, and the work goes on.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import TypeVar

import numpy as np
import torch

from torch_radar.threads import worker_threads

# Measured on CPUs: small batches keep activations in cache. On a GPU they must be large enough to fill it.
CPU_BATCH_TOKENS = 1024
GPU_BATCH_TOKENS = 32768
_CPU_THREADS = 4  # each holds a batch's activations

# glibc's names and values: mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_LARGEST_MMAP_THRESHOLD = 32 << 20

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def default_batch_tokens(device: torch.device) -> int:
    """Returns the token budget of a batch that suits a device."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


def default_threads(device: torch.device) -> int:
    """Returns how many batches may be computed at one time on a device: a GPU is filled by one."""
    return _CPU_THREADS if device.type == "cpu" else 1


def keep_freed_memory() -> None:
    """Has the allocator of this process keep up to 64 MiB that was freed, instead of giving it back at once.

    A CPU batch allocates and frees a few MiB for every operation. By default glibc returns them to the system and
    faults them in again, zeroed, each time: a fifth of the time of encoding, measured. It does nothing where the
    C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def plan_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Groups rows of similar length.

    Args:
        lengths: int array (n,), tokens of each row.
        max_tokens: The most padded tokens (rows × longest row) of one batch; a longer row gets a batch of its own.

    Returns:
        Index arrays that together hold every row once, longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def run_batches(
    lengths: np.ndarray, max_tokens: int, forward: Callable[[np.ndarray], None], *, threads: int = 1
) -> int:
    """Calls ``forward`` with every planned batch; a batch that does not fit in memory is halved and retried.

    Args:
        lengths: int array (n,), tokens of each row.
        max_tokens: The token budget to begin with.
        forward: Takes the row numbers of one batch and keeps its own results; called in inference mode.
        threads: The most batches computed at one time, each with its share of the processor's cores.

    Returns:
        The token budget that fitted, for the next call.

    Raises:
        MemoryError: If a single row does not fit.
    """
    pending = _Pending(lengths, max_tokens)

    @torch.inference_mode()
    def work() -> None:
        for batch in pending:
            try:
                forward(batch)
                continue
            except BaseException as error:
                if not _is_out_of_memory(error):
                    pending.clear()
                    raise
                if len(batch) == 1:
                    pending.clear()
                    raise MemoryError(
                        f"one text of {lengths[batch[0]]} tokens does not fit in memory: lower the token limit or use "
                        "another device"
                    ) from error
            # Outside the handler, so that the traceback no longer holds the failed batch's tensors.
            _release_memory()
            pending.halve(batch)

    threads = min(threads, len(pending) // 2)  # of fewer batches one is soon alone
    if threads < 2:
        work()
        return pending.max_tokens
    with worker_threads(threads) as (pool, count):
        try:
            for done in [pool.submit(work) for _ in range(count)]:
                done.result()
        except BaseException:  # Ctrl-C comes to this thread alone, and the pool waits for its own
            pending.clear()
            raise
    return pending.max_tokens


class _Pending:
    """The batches that are still to be computed, for one thread or several."""

    def __init__(self, lengths: np.ndarray, max_tokens: int):
        self.max_tokens = max_tokens
        self._lengths = lengths
        self._batches = deque(plan_batches(lengths, max_tokens))
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._lock:
                if not self._batches:
                    return
                batch = self._batches.popleft()
            yield batch

    def halve(self, batch: np.ndarray) -> None:
        """Takes a batch back that did not fit, and plans anew all that is left."""
        with self._lock:
            longest = int(self._lengths[batch].max())
            self.max_tokens = max(longest, min(self.max_tokens, len(batch) * longest // 2))
            rest = np.concatenate([batch, *self._batches])
            self._batches = deque(rest[planned] for planned in plan_batches(self._lengths[rest], self.max_tokens))

    def clear(self) -> None:
        """Leaves nothing to the other threads."""
        with self._lock:
            self._batches.clear()


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    message = str(error).lower()
    return "out of memory" in message or "can't allocate memory" in message


def _release_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pad_right(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks token ids, zero-padded on the right.

    What the padding holds is irrelevant: a causal model's earlier positions do not see it, others get a mask.

    Returns:
        int64 ids (n, longest) and int64 lengths (n,), both on ``device``.
    """
    lengths = [len(s) for s in sequences]
    ids = np.zeros((len(sequences), max(lengths)), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
    return to_device(torch.from_numpy(ids), device), to_device(torch.tensor(lengths), device)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Moves a host tensor to a device, through pinned memory and without waiting where it is a GPU."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def windows(items: Iterable[_In], size: int) -> Iterator[list[_In]]:
    """Cuts an iterable into lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def prepare_ahead(items: Iterable[_In], prepare: Callable[[_In], _Out]) -> Iterator[_Out]:
    """Maps ``prepare`` over items, always one ahead of the consumer, in a thread.

    Items are drawn by the calling thread; at most two prepared results exist at a time.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(prepare, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
