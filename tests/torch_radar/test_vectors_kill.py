"""An appending process killed at random moments, resumed each time."""

import hashlib
import multiprocessing
import random
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from torch_radar.vectors import VectorStore

KILLS = 20
SHARD, DIMENSION = 50, 32
ENDLESS = 10**9


def append_until(path: Path, rows: int, opened: Event) -> None:
    """Make or open the store in ``path`` and append shards until it holds ``rows``."""
    if VectorStore.exists(path):
        store = VectorStore.open(path)
    else:
        store = VectorStore.create(path, dimension=DIMENSION, settings={})
    opened.set()
    for start in range(len(store), rows, SHARD):
        vectors = np.random.default_rng(start).standard_normal((SHARD, DIMENSION))
        store.append([f"d{row}" for row in range(start, start + SHARD)], vectors)
    store.complete()


def content(store: VectorStore) -> tuple[list[str], str, list[str]]:
    """Docnos, a digest of all rows, and one of each shard file."""
    store.verify()
    files = sorted(store.path.glob("shards/*"))
    return (
        list(store.iter_docnos()),
        hashlib.sha256(store.vectors(0, len(store)).tobytes()).hexdigest(),
        [file.name + hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_store_killed_twenty_times_equals_one_that_was_not(tmp_path):
    # A server that has imported torch once and forks each writer: a second a kill less.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])

    def start(name: str, rows: int) -> multiprocessing.process.BaseProcess:
        opened = processes.Event()
        process = processes.Process(target=append_until, args=(tmp_path / name, rows, opened))
        process.start()
        assert opened.wait(60)
        return process

    moments = random.Random(0)
    lengths = []
    for _ in range(KILLS):
        process = start("killed", ENDLESS)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -9
        lengths.append(len(VectorStore.open(tmp_path / "killed")))
    assert lengths == sorted(lengths) and all(length % SHARD == 0 for length in lengths)
    assert len(set(lengths)) > KILLS // 2, "kills must fall between different shards: wait longer before them"
    rows = lengths[-1] + 3 * SHARD
    for name in ("killed", "whole"):
        process = start(name, rows)
        process.join(120)
        assert process.exitcode == 0
    killed, whole = VectorStore.open(tmp_path / "killed"), VectorStore.open(tmp_path / "whole")
    assert content(killed) == content(whole)
    assert len(killed) == rows and killed.is_complete
    expected = np.random.default_rng(SHARD).standard_normal((SHARD, DIMENSION)).astype(np.float16)
    np.testing.assert_array_equal(killed.vectors(SHARD, 2 * SHARD), expected)
