"""Exact search against a brute force, and its memory."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_radar.vectors import VectorStore
from torch_radar.vectors.documents import RowLists
from torch_radar.vectors.search import _FilteringScorer, _Scorer, exact_search
from torch_radar.vectors.shards import DTYPES, ShardReader, write_shard


def stored(folder: Path, vectors: np.ndarray, dtype: str = "float16", cuts: tuple[int, ...] = ()) -> ShardReader:
    """A reader over ``vectors``, cut into shards before the given rows."""
    (folder / "shards").mkdir(parents=True)
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(vectors)}), len(vectors)]
    shards = [
        write_shard(folder, number, start, torch.from_numpy(vectors[start:stop]).to(DTYPES[dtype]))
        for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False))
        if start < stop
    ]
    return ShardReader(folder, vectors.shape[1], dtype, shards)


def nobody(queries: int) -> RowLists:
    return RowLists.build([None] * queries)


def brute_force(vectors, queries, k, exclude, candidates):
    """Rows by (score in float64, lower row), padded."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    ranked = np.full((len(queries), k), -1)
    for place, row_scores in enumerate(scores):
        allowed = np.arange(len(vectors)) if candidates[place] is None else np.unique(candidates[place])
        allowed = np.setdiff1d(allowed, [-1] if exclude[place] is None else [*exclude[place], -1])
        best = allowed[np.argsort(-row_scores[allowed], kind="stable")][:k]
        ranked[place, : len(best)] = best
    return ranked


@st.composite
def searches(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    rows, queries, dimension = draw(st.integers(1, 300)), draw(st.integers(1, 20)), draw(st.integers(1, 12))
    # Small whole numbers: every product is exact, and ties abound.
    spread = draw(st.sampled_from([1, 3, 40]))

    def lists(longest):
        return [
            None if random.random() < 0.4 else random.integers(-1, rows, size=random.integers(0, longest + 1))
            for _ in range(queries)
        ]

    return {
        "vectors": random.integers(-spread, spread + 1, size=(rows, dimension)).astype(np.float32),
        "queries": random.integers(-spread, spread + 1, size=(queries, dimension)).astype(np.float32),
        "k": draw(st.one_of(st.integers(1, 12), st.integers(1, 400))),
        "cuts": tuple(draw(st.lists(st.integers(1, 300), max_size=3))),
        "dtype": draw(st.sampled_from(["float16", "float32"])),
        "block_rows": draw(st.sampled_from([7, 40, None])),
        "first_pass": draw(st.sampled_from(["bfloat16", "float32", "auto"])),
        "exclude": lists(rows) if draw(st.booleans()) else [None] * queries,
        "candidates": lists(draw(st.sampled_from([3, rows]))) if draw(st.booleans()) else [None] * queries,
    }


@settings(max_examples=150, deadline=None)
@given(case=searches())
def test_equals_a_brute_force_with_ties_by_lower_row(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    reader = stored(folder, case["vectors"], case["dtype"], case["cuts"])
    hits = exact_search(
        reader,
        case["queries"],
        case["k"],
        exclude=RowLists.build(case["exclude"]),
        candidates=RowLists.build(case["candidates"]),
        first_pass=case["first_pass"],
        block_rows=case["block_rows"],
    )
    expected = brute_force(case["vectors"], case["queries"], case["k"], case["exclude"], case["candidates"])
    np.testing.assert_array_equal(hits.rows, expected)
    scores = np.take_along_axis(case["queries"] @ case["vectors"].T, np.maximum(expected, 0), axis=1)
    np.testing.assert_array_equal(hits.scores, np.where(expected < 0, -np.inf, scores))
    assert hits.scores.dtype == np.float32 and hits.rows.dtype == np.int64


@pytest.mark.parametrize("shape", ["spread out", "crowded around one direction", "of many lengths"])
@pytest.mark.parametrize("first_pass", ["bfloat16", "float32"])
def test_recall_and_scores_are_those_of_float64(tmp_path, shape, first_pass):
    random = np.random.default_rng(1)
    rows, dimension, k = 6000, 192, 100
    vectors = random.standard_normal((rows, dimension)).astype(np.float32)
    queries = random.standard_normal((40, dimension)).astype(np.float32)
    if shape == "crowded around one direction":  # as embeddings often are: all scores near 0.95
        vectors, queries = vectors + 4.5, queries + 4.5
    for unit in (vectors, queries):
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    if shape == "of many lengths":
        vectors *= random.lognormal(0, 2, size=(rows, 1)).astype(np.float32)
    reader = stored(tmp_path, vectors, cuts=(1000, 2500))
    hits = exact_search(
        reader, queries, k, exclude=nobody(40), candidates=nobody(40), first_pass=first_pass, block_rows=512
    )
    exact = queries.astype(np.float64) @ vectors.astype(np.float16).astype(np.float64).T
    best = np.sort(exact, axis=1)[:, ::-1][:, :k]
    assert np.abs(hits.scores - best).max() <= 1e-5 * max(1, np.abs(best).max())
    expected = np.argsort(-exact, axis=1)[:, :k]
    found = [len(np.intersect1d(a, b)) for a, b in zip(hits.rows, expected, strict=True)]
    assert sum(found) / expected.size >= 0.9999 - 1 / expected.size  # a rounding tie at the end of one list


def test_bfloat16_first_pass_keeps_what_bfloat16_itself_would_rank_too_low(tmp_path):
    # 1 + 2⁻⁸ − 2⁻¹⁰ is 1 in bfloat16. Row 700 is best with 256.05 against row 0's 256, and 255 in bfloat16.
    vectors = np.full((1000, 256), 0.5, dtype=np.float32)
    vectors[0] = 1
    vectors[700] = 1 + 2.0**-8 - 2.0**-10
    vectors[700, 0] = 0.3
    hits = exact_search(
        stored(tmp_path, vectors),
        np.ones((20, 256), dtype=np.float32),
        1,
        exclude=nobody(20),
        candidates=nobody(20),
        first_pass="bfloat16",
        block_rows=100,
    )
    assert (hits.rows == 700).all()


@pytest.mark.parametrize("scorer", [_Scorer, _FilteringScorer])
def test_a_score_that_equals_the_kth_best_counts_because_blocks_come_in_any_order(tmp_path, scorer):
    reader = stored(tmp_path, np.ones((100, 4), dtype=np.float32))
    queries = torch.ones(20, 4)
    built = scorer(queries) if scorer is _Scorer else scorer(queries, reader, 100)
    threshold = np.full(20, 4, dtype=np.float32)
    assert len(built.score(torch.ones(100, 4), None, threshold).scores) == 2000
    assert len(built.score(torch.ones(100, 4), None, threshold + 1).scores) == 0


def test_a_query_left_with_fewer_than_k_documents_keeps_all_of_them(tmp_path):
    vectors = np.arange(300, dtype=np.float32)[:, None]
    left = np.array([3, 120, 280])
    hits = exact_search(
        stored(tmp_path, vectors),
        np.ones((2, 1), dtype=np.float32),
        20,
        exclude=RowLists.build([np.setdiff1d(np.arange(300), left), None]),
        candidates=nobody(2),
        block_rows=10,
    )
    assert hits.rows[0].tolist() == [280, 120, 3] + [-1] * 17
    assert hits.rows[1].tolist() == list(range(299, 279, -1))


def test_excluding_a_row_between_candidates_hides_no_candidate(tmp_path):
    hits = exact_search(
        stored(tmp_path, np.ones((100, 2), dtype=np.float32)),
        np.ones((1, 2), dtype=np.float32),
        5,
        exclude=RowLists.build([np.array([13, 15])]),
        candidates=RowLists.build([np.array([9, 14, 15, 40])]),
    )
    assert hits.rows.tolist() == [[9, 14, 40, -1, -1]]


def test_the_same_search_gives_the_same_bits_whatever_thread_takes_which_block(tmp_path):
    random = np.random.default_rng(4)
    reader = stored(tmp_path, random.standard_normal((20_000, 32)).astype(np.float32) + 2)
    queries = random.standard_normal((64, 32)).astype(np.float32) + 2
    arguments = {"exclude": nobody(64), "candidates": nobody(64), "first_pass": "bfloat16", "block_rows": 256}
    first = exact_search(reader, queries, 50, **arguments)
    for _ in range(5):
        again = exact_search(reader, queries, 50, **arguments)
        np.testing.assert_array_equal(again.scores.view(np.int32), first.scores.view(np.int32))
        np.testing.assert_array_equal(again.rows, first.rows)


def test_many_queries_are_searched_in_batches(tmp_path):
    random = np.random.default_rng(2)
    vectors = random.integers(-5, 6, size=(300, 8)).astype(np.float32)
    queries = random.integers(-5, 6, size=(600, 8)).astype(np.float32)
    exclude = [random.integers(0, 300, size=3) for _ in queries]
    hits = exact_search(stored(tmp_path, vectors), queries, 5, exclude=RowLists.build(exclude), candidates=nobody(600))
    np.testing.assert_array_equal(hits.rows, brute_force(vectors, queries, 5, exclude, [None] * 600))


def test_search_leaves_the_number_of_threads_as_it_was(tmp_path):
    reader = stored(tmp_path, np.ones((50, 4), dtype=np.float32))
    queries = np.ones((2, 4), dtype=np.float32)

    def search_and_count(_: int) -> int:
        exact_search(reader, queries, 1, exclude=nobody(2), candidates=nobody(2), block_rows=5)
        return torch.get_num_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:  # threads that start with what a search may have left behind
            assert set(pool.map(search_and_count, range(20))) == {2}
        assert search_and_count(0) == 2
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_products_stay_float32_where_the_program_allows_less(tmp_path):
    random = np.random.default_rng(3)
    vectors = random.standard_normal((500, 256)).astype(np.float16).astype(np.float32)
    query = random.standard_normal((30, 256)).astype(np.float32)
    reader = stored(tmp_path, vectors)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        hits = exact_search(reader, query, 10, exclude=nobody(30), candidates=nobody(30), first_pass="float32")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    best = np.sort(query.astype(np.float64) @ vectors.T.astype(np.float64), axis=1)[:, ::-1][:, :10]
    assert np.abs(hits.scores - best).max() < 1e-4  # bfloat16 products are off by about 0.1 here


# VmHWM, not ru_maxrss: the latter starts from the memory of the process that started this one.
MEASURE = """
import re, sys
import numpy as np
from torch_radar.vectors import VectorStore
store = VectorStore.open(sys.argv[1])
queries = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)
store.search(queries, 100)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_documents(tmp_path):
    random = np.random.default_rng(0)
    peaks = []
    for rows in (20_000, 500_000):
        store = VectorStore.create(tmp_path / str(rows), dimension=64, settings={})
        store.append([f"d{row}" for row in range(rows)], random.standard_normal((rows, 64)).astype(np.float32))
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, str(store.path)], capture_output=True, text=True, check=True
        )
        peaks.append(int(measured.stdout) / 1024)
    assert peaks[1] - peaks[0] < 30  # MiB; the larger store is 59 MiB larger
