"""The vector store: what it keeps, what it refuses, what survives a full disk."""

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_radar.vectors import DuplicateDocnoError, StoreError, StoreMismatchError, VectorStore

SETTINGS = {"model": "m", "template": "query_document", "max_tokens": 512}


def vectors(rows: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def docnos(start: int, stop: int) -> list[str]:
    return [f"d{row}" for row in range(start, stop)]


UNIT = vectors(12) / np.linalg.norm(vectors(12), axis=1, keepdims=True)


@pytest.fixture
def store(tmp_path) -> VectorStore:
    """Two shards: rows 0 to 4 and 5 to 11, of unit vectors."""
    made = VectorStore.create(tmp_path / "store", dimension=8, settings=SETTINGS)
    made.append(docnos(0, 5), UNIT[:5])
    made.append(docnos(5, 12), UNIT[5:])
    return made


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), max_size=6),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 2**16),
)
def test_reopened_store_gives_back_rows_and_docnos(sizes, dtype, seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "store"
    store = VectorStore.create(path, dimension=8, settings=SETTINGS, dtype=dtype)
    total = sum(sizes)
    given_rows = vectors(total, seed=seed)
    start = 0
    for size in sizes:
        store.append(docnos(start, start + size), given_rows[start : start + size])
        start += size
    store = VectorStore.open(path)
    kept = given_rows.astype(dtype).astype(np.float32)
    assert (len(store), store.dtype, store.dimension, store.settings) == (total, dtype, 8, SETTINGS)
    np.testing.assert_array_equal(store.vectors(0, total), kept)
    np.testing.assert_array_equal(store.vectors(total // 3, total // 2), kept[total // 3 : total // 2])
    assert list(store.iter_docnos()) == docnos(0, total)
    assert list(store.iter_docnos(total // 2)) == docnos(total // 2, total)
    some = np.random.default_rng(seed).integers(0, total, size=10) if total else np.empty(0, dtype=np.int64)
    np.testing.assert_array_equal(store.gather(some), kept[some])
    assert store.docnos(some) == [f"d{row}" for row in some]
    np.testing.assert_array_equal(store.rows([*store.docnos(some), "absent"]), [*some, -1])
    store.verify()


def test_complete_until_something_is_appended(store):
    assert not store.is_complete
    store.complete()
    assert VectorStore.open(store.path).is_complete
    store.append(["new"], vectors(1))
    assert not VectorStore.open(store.path).is_complete


def test_an_open_store_sees_what_another_appends(store):
    VectorStore.open(store.path).append(["new"], UNIT[:1] * 2)
    assert len(store) == 13
    assert store.search(UNIT[:1], 1).rows.tolist() == [[12]]


def test_search_by_docnos(store):
    query = UNIT[[3, 7]]
    assert store.search(query, 1).rows.tolist() == [[3], [7]]
    excluded = store.search(query, 12, exclude=[["d3", "absent"], None])
    assert 3 not in excluded.rows[0] and excluded.rows[0, -1] == -1 and excluded.scores[0, -1] == -np.inf
    assert sorted(excluded.rows[1]) == list(range(12))
    chosen = store.search(query, 3, candidates=[["d9", "d0", "absent", "d9"], None], exclude=[["d0"], []])
    assert chosen.rows[0].tolist() == [9, -1, -1] and (chosen.rows[1] >= 0).all()
    assert store.search(query, 2, candidates=[[], ["absent"]]).rows.tolist() == [[-1, -1], [-1, -1]]


def test_search_without_documents_or_queries(tmp_path, store):
    empty = VectorStore.create(tmp_path / "empty", dimension=8, settings={})
    assert empty.search(vectors(2), 3).rows.tolist() == [[-1] * 3] * 2
    assert store.search(np.empty((0, 8), dtype=np.float32), 3).scores.shape == (0, 3)


def test_threads_search_at_once(store):
    queries = vectors(64, seed=5)
    expected = store.search(queries, 4).rows
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda query: store.search(query[None], 4).rows[0], queries))
    np.testing.assert_array_equal(parts, expected)


def test_lookups_in_bulk_go_both_ways(tmp_path):
    store = VectorStore.create(tmp_path / "store", dimension=1, settings={})
    store.append(docnos(0, 100_000), np.zeros((100_000, 1)))
    rows = np.random.default_rng(0).integers(0, 100_000, size=100_000)  # 100 rankings of 1,000
    np.testing.assert_array_equal(store.rows(store.docnos(rows)), rows)
    assert list(store.iter_docnos(5)) == docnos(5, 100_000)


def test_a_mismatch_names_every_difference_with_both_values(store):
    store.require_settings(dict(SETTINGS))
    with pytest.raises(StoreMismatchError) as error:
        store.require_settings({"model": "m", "template": "plain", "instruction": "Find proofs"})
    message = str(error.value)
    assert "template: store 'query_document', asked 'plain'" in message
    assert "instruction: store has none, asked 'Find proofs'" in message
    assert "max_tokens: store 512, asked has none" in message
    assert "model" not in message.split("other settings")[1].split(":")[0]
    assert str(store.path) in message


@pytest.mark.parametrize(
    ("names", "rows", "error", "message"),
    [
        (["a", "b", "a"], vectors(3), DuplicateDocnoError, "'a' occurs twice in one append, at positions 0 and 2"),
        (["a", "d6"], vectors(2), DuplicateDocnoError, "'d6' is already in .* at row 6"),
        (["a", 7], vectors(2), StoreError, "7 at position 1 is not a string"),
        (["a", None], vectors(2), StoreError, "None at position 1 is not a string"),
        (["", "a"], vectors(2), StoreError, "position 0 is empty"),
        (["a", "b\nc"], vectors(2), StoreError, r"'b\\nc' at position 1 holds a line break"),
        (["a\tb", "c"], vectors(2), StoreError, r"'a\\tb' at position 0 holds .*control character"),
        (["\ud800", "c"], vectors(2), StoreError, "lone surrogate"),
        (["a", "b"], vectors(3), StoreError, "2 docnos came with 3 vectors"),
        (["a", "b"], vectors(2, 7), StoreError, r"\(n, 8\), not \(2, 7\)"),
        (["a"], np.zeros(8), StoreError, r"\(n, 8\), not \(8,\)"),
        (["a", "b"], np.array([[0.0] * 8, [np.nan] * 8]), StoreError, "'b' has NaN or infinite values"),
        (["a", "b"], np.array([[0.0] * 8, [70_000.0] * 8]), StoreError, "'b' has values too large for float16"),
    ],
)  # fmt: skip
def test_bad_documents_are_named_and_nothing_is_stored(store, names, rows, error, message):
    with pytest.raises(error, match=message):
        store.append(names, rows)
    assert len(store) == 12
    store.append(["a", "b", "\u00e9 \u6587"], vectors(3))
    assert store.docnos([14]) == ["\u00e9 \u6587"]


@pytest.mark.parametrize(
    ("queries", "arguments", "message"),
    [
        (vectors(2, 7), {"k": 1}, r"\(q, 8\).*not \(2, 7\)"),
        (np.zeros(8), {"k": 1}, r"\(q, 8\).*not \(8,\)"),
        (np.array([[0.0] * 8, [np.nan] * 8]), {"k": 1}, "Query 1 has NaN"),
        (vectors(2), {"k": 0}, "k must be .* at least 1, not 0"),
        (vectors(2), {"k": 2.5}, "k must be .* not 2.5"),
        (vectors(2), {"k": 1, "exclude": [["d1"]]}, "exclude has 1 entries for 2 queries"),
        (vectors(2), {"k": 1, "candidates": ["d1", "d2"]}, r"candidates\[0\] is the text 'd1'"),
    ],
)
def test_bad_searches_are_refused(store, queries, arguments, message):
    with pytest.raises(ValueError, match=message):
        store.search(queries, **arguments)


def test_rows_that_are_not_stored_are_named(store):
    with pytest.raises(StoreError, match="no row 12"):
        store.docnos([3, 12])
    with pytest.raises(StoreError, match="no row -1"):
        store.gather([3, -1])
    with pytest.raises(StoreError, match="no rows 5 to 13"):
        store.vectors(5, 13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 0}, "dimension must be .* not 0"),
        ({"dimension": 8, "dtype": "bfloat16"}, "dtype must be one of float16, float32"),
        ({"dimension": 8, "settings": {"path": Path("x")}}, "plain JSON"),
    ],
)
def test_create_refuses_what_it_cannot_keep(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        VectorStore.create(tmp_path / "store", **{"settings": {}, **arguments})
    assert not VectorStore.exists(tmp_path / "store")


def test_create_refuses_a_place_that_is_taken(tmp_path, store):
    with pytest.raises(StoreError, match="already holds a vector store"):
        VectorStore.create(store.path, dimension=8, settings={})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        VectorStore.create(tmp_path / "file", dimension=8, settings={})
    (store.path / "manifest.sqlite").unlink()
    with pytest.raises(StoreError, match="files but no manifest"):
        VectorStore.create(store.path, dimension=8, settings={})


def test_open_refuses_what_is_not_a_store_it_can_read(tmp_path, store):
    with pytest.raises(FileNotFoundError, match="holds no vector store"):
        VectorStore.open(tmp_path / "nowhere")
    manifest = store.path / "manifest.sqlite"
    with sqlite3.connect(manifest) as connection:
        connection.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError, match="schema version 0, and this software reads version 1: index"):
        VectorStore.open(store.path)
    manifest.unlink()
    with sqlite3.connect(manifest) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="not the manifest of a vector store"):
        VectorStore.open(store.path)
    manifest.write_bytes(b"rows of something else" * 100)
    with pytest.raises(StoreError, match="not a readable store manifest"):
        VectorStore.open(store.path)


def test_damaged_shards_are_named(store):
    shard = store.path / "shards" / "00000001.bin"
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"00000001.bin \(rows 5 to 11\) does not match its checksum"):
        VectorStore.open(store.path).verify()
    shard.write_bytes(content[:-1])
    with pytest.raises(StoreError, match="00000001.bin is 111 bytes long instead of 112"):
        VectorStore.open(store.path)
    with pytest.raises(StoreError, match="00000001.bin was cut while it was read"):
        store.search(UNIT, 1)  # opened before
    shard.unlink()
    with pytest.raises(StoreError, match="00000001.bin is missing"):
        VectorStore.open(store.path)


def test_a_shard_that_was_not_committed_is_overwritten(store):
    (store.path / "shards" / "00000002.bin").write_bytes(b"from a run that died before its commit")
    store = VectorStore.open(store.path)
    assert len(store) == 12
    store.append(["new"], vectors(1, seed=9))
    np.testing.assert_array_equal(store.vectors(12, 13), vectors(1, seed=9).astype(np.float16))
    store.verify()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_a_readable_store(small_disk):
    store = VectorStore.create(small_disk / "store", dimension=256, settings={})
    store.append(docnos(0, 1000), vectors(1000, 256))
    with pytest.raises(OSError, match="No room left for shard 1 .*1000 documents .*free some space") as error:
        store.append(docnos(1000, 3000), vectors(2000, 256))
    assert error.value.errno == errno.ENOSPC
    assert [file.name for file in (store.path / "shards").iterdir()] == ["00000000.bin"]
    store = VectorStore.open(store.path)
    store.verify()
    assert len(store) == 1000
    store.append(docnos(1000, 1100), vectors(100, 256))


def test_a_disk_that_fills_with_docnos_leaves_a_readable_store(small_disk):
    store = VectorStore.create(small_disk / "store", dimension=1, settings={})
    store.append(["first"], np.ones((1, 1)))
    with pytest.raises(OSError, match="manifest of .* could not be written .*free some space"):
        store.append([f"{row:0500d}" for row in range(4000)], np.ones((4000, 1)))
    store = VectorStore.open(store.path)
    store.verify()
    assert list(store.iter_docnos()) == ["first"]
    store.append(["second"], np.ones((1, 1)))


def test_a_file_size_limit_leaves_a_readable_store(store):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        with pytest.raises(OSError, match="No room left for shard 2"):
            store.append(docnos(12, 10_000), vectors(9_988))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((store.path / "shards").glob("*.tmp"))
    store.append(docnos(12, 10_000), vectors(9_988))
    assert len(VectorStore.open(store.path)) == 10_000


def test_a_read_only_folder_can_be_searched_but_not_appended_to(small_disk):
    store = VectorStore.create(small_disk / "store", dimension=8, settings=SETTINGS)
    store.append(docnos(0, 5), UNIT[:5])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = VectorStore.open(store.path)
    store.verify()
    assert store.docnos(store.search(UNIT[2:3], 1).rows[0]) == ["d2"]
    for change in (store.complete, lambda: store.append(["new"], vectors(1))):
        with pytest.raises(PermissionError, match="is read-only: copy the store"):
            change()


def test_two_processes_that_append_take_turns(store):
    script = (
        "import sys, numpy as np\n"
        "from torch_radar.vectors import VectorStore\n"
        "store = VectorStore.open(sys.argv[1])\n"
        "for n in range(15):\n"
        "    store.append([f'{sys.argv[2]}-{n}'], np.full((1, 8), n))\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, store.path, name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(store) == 42
    store.verify()
    for name in "ab":
        rows = store.rows([f"{name}-{n}" for n in range(15)])
        np.testing.assert_array_equal(store.gather(rows)[:, 0], np.arange(15))


def test_flex_export_ranks_as_the_store_does(store, tmp_path):
    pyterrier_dr = pytest.importorskip("pyterrier_dr")
    pandas = pytest.importorskip("pandas")
    path = store.to_flex(tmp_path / "export.flex")
    assert sorted(os.listdir(path)) == ["docnos.npids", "pt_meta.json", "vecs.f4"]
    index = pyterrier_dr.FlexIndex(str(path), verbose=False)
    assert len(index) == 12
    queries = vectors(3, seed=4)
    frame = pandas.DataFrame({"qid": ["0", "1", "2"], "query_vec": list(queries)})
    ranked = index.np_retriever(num_results=5)(frame).sort_values(["qid", "rank"])
    hits = store.search(queries, 5)
    assert ranked.docno.tolist() == store.docnos(hits.rows.ravel())
    np.testing.assert_allclose(ranked.score, hits.scores.ravel(), rtol=1e-5)


def test_faiss_export_ranks_as_the_store_does(store, tmp_path):
    faiss = pytest.importorskip("faiss")
    path = store.to_faiss(tmp_path / "export")
    assert sorted(os.listdir(path)) == ["docid", "index"]
    index = faiss.read_index(str(path / "index"))
    names = (path / "docid").read_text().splitlines()
    queries = vectors(3, seed=4)
    scores, rows = index.search(queries, 5)
    hits = store.search(queries, 5)
    assert [names[row] for row in rows.ravel()] == store.docnos(hits.rows.ravel())
    np.testing.assert_allclose(scores, hits.scores, rtol=1e-5)


@pytest.mark.parametrize("export", ["to_flex", "to_faiss"])
def test_an_export_has_its_name_only_when_it_is_whole(store, tmp_path, export):
    shard = store.path / "shards" / "00000001.bin"
    shard.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        getattr(store, export)(tmp_path / "export")
    assert sorted(os.listdir(tmp_path)) == ["away", "store"]
    (tmp_path / "away").rename(shard)
    getattr(store, export)(tmp_path / "export")
    with pytest.raises(StoreError, match="export exists: choose a new folder"):
        getattr(store, export)(tmp_path / "export")
    empty = VectorStore.create(tmp_path / "empty", dimension=8, settings={})
    with pytest.raises(StoreError, match="holds no vectors to export"):
        getattr(empty, export)(tmp_path / "other")


def test_a_missing_faiss_names_the_extra(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install pyterrier-radar\[faiss\]"):
        store.to_faiss(tmp_path / "export")
