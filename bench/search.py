"""Exact search: ours against FAISS IndexFlatIP and against the bare matrix product that both contain.

    python bench/search.py                  # 100 queries, 100,000 x 1,024 stored as float16, top 1,000
    python bench/search.py --data crowded   # all scores near 0.8, as with many embedding models

Every system runs in turn in a process of its own (A B C D A B C D ...), searches once unmeasured and then
``--repeats`` times, and reports its median time and its peak memory, which is also given without what the process
held after its imports. Figures are medians over the rounds; recall is against float64 products of the stored
values. FAISS holds float32; ours reads the float16 store, which the operating system has cached. faiss-cpu 1.14
is four times slower here than 1.13.2: compare with 1.13.2 or older.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import interleave, report, timed

SYSTEMS = ["radar", "faiss", "product-numpy", "product-torch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--data", choices=["spread", "crowded"], default="spread")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--system", choices=["prepare", *SYSTEMS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.system == "prepare":
        prepare(arguments)
    elif arguments.system:
        run(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        shared = ["--folder", folder]
        for name in ("documents", "dimension", "queries", "k", "data", "threads", "repeats"):
            shared += [f"--{name}", str(getattr(arguments, name))]
        subprocess.run([sys.executable, __file__, "--system", "prepare", *shared], check=True)
        figures = interleave(__file__, SYSTEMS, arguments.rounds, shared)
        best = np.load(Path(folder) / "best.npy")
        print(
            f"\n{arguments.queries} queries, {arguments.documents:,} x {arguments.dimension:,} ({arguments.data}), "
            f"top {arguments.k:,}, {arguments.threads} threads, faiss-cpu {faiss_version()}"
        )
        print(f"{'':14}{'median s':>10}{'peak MiB':>10}{'over imports':>14}{'recall':>10}")
        for system, values in figures.items():
            found = Path(folder) / f"{system}.npy"
            recall = f"{recall_of(np.load(found), best):.5f}" if found.exists() else "-"
            print(
                f"{system:14}{values['seconds']:10.4f}{values['peak_mib']:10.0f}"
                f"{values['peak_mib'] - values['imports_mib']:14.0f}{recall:>10}"
            )
    ours, faiss = figures["radar"], figures["faiss"]
    product = min(figures["product-numpy"]["seconds"], figures["product-torch"]["seconds"])
    grown = [(f["peak_mib"] - f["imports_mib"]) for f in (ours, faiss)]
    print(f"\nfaster than FAISS         {faiss['seconds'] / ours['seconds']:6.2f} x   (aim: at least 1.5)")
    print(f"time over bare product    {ours['seconds'] / product:6.2f}     (aim: at most 1.2)")
    print(f"memory over FAISS's       {ours['peak_mib'] / faiss['peak_mib']:6.2f}     (aim: at most 0.5)")
    print(f"  of what imports leave   {grown[0] / grown[1]:6.2f}")


def recall_of(found: np.ndarray, best: np.ndarray) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]))


def faiss_version() -> str:
    from importlib.metadata import version

    return version("faiss-cpu")


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the store, the FAISS index, the queries and the best rows by float64 products."""
    import torch

    from torch_radar.vectors import VectorStore

    random = np.random.default_rng(0)
    offset = 1.7 * random.standard_normal(arguments.dimension) if arguments.data == "crowded" else 0.0

    def unit_vectors(count: int) -> np.ndarray:
        made = random.standard_normal((count, arguments.dimension)) + offset
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    queries = unit_vectors(arguments.queries)
    np.save(arguments.folder / "queries.npy", queries)
    store = VectorStore.create(arguments.folder / "store", dimension=arguments.dimension, settings={})
    scores = []
    for start in range(0, arguments.documents, 10_000):
        stop = min(start + 10_000, arguments.documents)
        store.append([f"d{row}" for row in range(start, stop)], unit_vectors(stop - start))
        stored = torch.from_numpy(store.vectors(start, stop)).double()
        scores.append(torch.from_numpy(queries).double() @ stored.T)
    np.save(arguments.folder / "best.npy", torch.cat(scores, dim=1).topk(arguments.k).indices.numpy())
    store.to_faiss(arguments.folder / "faiss")


def run(arguments: argparse.Namespace) -> None:
    """One system in this process: its median time and its memory before and after."""
    search, imports_mib = {
        "radar": radar,
        "faiss": faiss_flat,
        "product-numpy": product_numpy,
        "product-torch": product_torch,
    }[arguments.system](arguments.folder, arguments.k, arguments.threads)
    rows = search()
    if isinstance(rows, np.ndarray):
        np.save(arguments.folder / f"{arguments.system}.npy", rows)
    seconds = median(timed(search)[0] for _ in range(arguments.repeats))
    report(seconds=seconds, imports_mib=imports_mib)


def radar(folder: Path, k: int, threads: int) -> tuple[Callable[[], Any], int]:
    import torch

    from torch_radar.vectors import VectorStore

    torch.set_num_threads(threads)
    queries = np.load(folder / "queries.npy")
    before = resident_mib()
    store = VectorStore.open(folder / "store")
    return lambda: store.search(queries, k).rows, before


def faiss_flat(folder: Path, k: int, threads: int) -> tuple[Callable[[], Any], int]:
    import faiss

    faiss.omp_set_num_threads(threads)
    queries = np.load(folder / "queries.npy")
    before = resident_mib()
    index = faiss.read_index(str(folder / "faiss" / "index"))
    return lambda: index.search(queries, k)[1], before


def product_numpy(folder: Path, k: int, threads: int) -> tuple[Callable[[], Any], int]:
    queries = np.load(folder / "queries.npy")
    before = resident_mib()
    vectors = stored_as_float32(folder)
    return lambda: (queries @ vectors.T, None)[1], before


def product_torch(folder: Path, k: int, threads: int) -> tuple[Callable[[], Any], int]:
    import torch

    torch.set_num_threads(threads)
    queries = torch.from_numpy(np.load(folder / "queries.npy"))
    before = resident_mib()
    vectors = torch.from_numpy(stored_as_float32(folder))
    return lambda: (queries @ vectors.T, None)[1], before


def stored_as_float32(folder: Path) -> np.ndarray:
    """The store's rows as one float32 matrix, filled shard by shard."""
    dimension = np.load(folder / "queries.npy", mmap_mode="r").shape[1]
    shards = sorted((folder / "store" / "shards").iterdir())
    rows = [shard.stat().st_size // (2 * dimension) for shard in shards]
    vectors = np.empty((sum(rows), dimension), dtype=np.float32)
    for shard, stop, count in zip(shards, np.cumsum(rows), rows, strict=True):
        vectors[stop - count : stop] = np.fromfile(shard, dtype="<f2").reshape(count, dimension)
    return vectors


def resident_mib() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


if __name__ == "__main__":
    main()
