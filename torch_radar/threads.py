"""Threads that share the processor's cores, each at work of its own.

Threads that take whole pieces of work never wait for one another, unlike those that share each small step of one: on
two idle cores that is a fifth faster, and on busy ones several times.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

# torch.set_num_threads sets what later threads start with as well: one pool at a time does so, and sets it back.
_STARTING = threading.Lock()


@contextmanager
def worker_threads(most: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """A pool and its number of threads: ``most``, or fewer where torch uses fewer, which they have between them."""
    with _STARTING:
        allowed = torch.get_num_threads()
    count = min(allowed, most)
    with ThreadPoolExecutor(count) as pool:
        ready = threading.Barrier(count)  # every thread takes one task only: it cannot pass alone

        def start() -> None:
            torch.get_num_threads()  # a thread's first look at it would undo what is set before
            torch.set_num_threads(allowed // count)
            ready.wait(timeout=60)

        with _STARTING:
            try:
                for started in [pool.submit(start) for _ in range(count)]:
                    started.result()
            finally:
                torch.set_num_threads(allowed)
        yield pool, count
