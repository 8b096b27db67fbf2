"""Batches hold every row once, keep to their budget, and survive running out of memory."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_radar.batching import plan_batches, prepare_ahead, run_batches, windows

LENGTHS = st.lists(st.integers(1, 300), max_size=80).map(lambda lengths: np.array(lengths, dtype=np.int64))


@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_a_plan_holds_every_row_once_within_the_budget_longest_first(lengths: np.ndarray, budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    assert [lengths[b].max() for b in batches] == sorted((lengths[b].max() for b in batches), reverse=True)


@given(lengths=LENGTHS, budget=st.integers(1, 2000), capacity=st.integers(300, 1500), threads=st.integers(1, 3))
def test_a_batch_that_does_not_fit_is_halved_and_every_row_still_runs_once(lengths, budget, capacity, threads) -> None:
    done: list[int] = []

    def forward(rows: np.ndarray) -> None:
        if len(rows) * lengths[rows].max() > capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(rows)

    fitted = run_batches(lengths, budget, forward, threads=threads)
    assert sorted(done) == list(range(len(lengths)))
    assert fitted <= budget or fitted <= 300


def test_one_row_that_does_not_fit_is_an_error_with_its_size() -> None:
    def forward(rows: np.ndarray) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="one text of 700 tokens does not fit"):
        run_batches(np.array([700, 3]), 4096, forward)


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    def forward(rows: np.ndarray) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_batches(np.array([3]), 4096, forward)


def test_an_error_in_one_thread_ends_the_others_work() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    begun: list[int] = []

    def forward(rows: np.ndarray) -> None:
        begun.extend(rows)
        if 0 in rows:
            raise RuntimeError("shapes do not match")
        time.sleep(0.01)

    try:
        with pytest.raises(RuntimeError, match="shapes do not match"):
            run_batches(np.arange(500, 0, -1), 1, forward, threads=2)
    finally:
        torch.set_num_threads(before)
    assert len(begun) < 50


def test_several_batches_are_computed_at_one_time_in_inference_mode() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    both = threading.Barrier(2)

    def forward(rows: np.ndarray) -> None:
        assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 1
        both.wait(timeout=30)

    try:
        run_batches(np.ones(8, dtype=np.int64), 1, forward, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space, which only Linux enforces")
def test_encoding_goes_on_after_the_machine_really_ran_out_of_memory(tiny_qwen2) -> None:
    code = f"""
import resource
import torch_radar.encoder
from torch_radar.encoder import Encoder
budgets, run_batches = [], torch_radar.encoder.run_batches
torch_radar.encoder.run_batches = lambda *given, **how: budgets.append(run_batches(*given, **how))
texts = ["theorem " * 400] * 96
calm = Encoder({str(tiny_qwen2)!r}, batch_tokens=2048).encode_documents(texts[:1])
encoder = Encoder({str(tiny_qwen2)!r}, batch_tokens=10**9, attention="eager")
encoder.dimension
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20, resource.RLIM_INFINITY))
vectors = encoder.encode_documents(texts)
assert abs(vectors - calm).max() < 1e-5
print(budgets[-1])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) < 10**6


@given(items=st.lists(st.integers()), size=st.integers(1, 7))
def test_windows_keep_order_and_size(items: list[int], size: int) -> None:
    cut = list(windows(iter(items), size))
    assert [x for window in cut for x in window] == items
    assert all(len(window) == size for window in cut[:-1])


def test_preparing_ahead_keeps_order_and_draws_at_most_one_item_ahead() -> None:
    drawn: list[int] = []

    def source():
        for i in range(10):
            drawn.append(i)
            yield i

    for i, result in enumerate(prepare_ahead(source(), lambda x: x * x)):
        assert result == i * i
        assert len(drawn) <= i + 2


def test_an_error_while_preparing_reaches_the_consumer() -> None:
    with pytest.raises(ZeroDivisionError):
        list(prepare_ahead([1, 0], lambda x: 1 // x))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc")
def test_freed_activations_are_not_faulted_in_again() -> None:
    program = (
        "import ctypes, resource, torch\n"
        "from torch_radar.batching import keep_freed_memory\n"
        "ctypes.CDLL(None).mallopt(-3, 1 << 17)\n"  # as glibc begins, without what it happens to adapt later
        "{}\n"
        "def work():\n"
        "    for size in range(200, 4000, 100): [torch.ones(1024, size) for _ in range(2)]\n"
        "work()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "work()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )

    def faults(call: str) -> int:
        result = subprocess.run(
            [sys.executable, "-c", program.format(call)], capture_output=True, text=True, check=True
        )
        return int(result.stdout)

    assert faults("keep_freed_memory()") < faults("") / 10


def test_an_interrupt_ends_the_work_of_all_threads(interruptible: None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    begun: list[int] = []

    def forward(rows: np.ndarray) -> None:
        begun.extend(rows)
        if 40 in rows:  # the main thread waits by now
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)

    try:
        with pytest.raises(KeyboardInterrupt):
            run_batches(np.arange(500, 0, -1), 1, forward, threads=2)
    finally:
        torch.set_num_threads(before)
    assert len(begun) < 150
