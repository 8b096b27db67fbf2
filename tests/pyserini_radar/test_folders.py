"""Vectors between our stores and FAISS folders, by function and by command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pyserini_radar import export_faiss, import_faiss
from pyserini_radar.commands import app
from torch_radar.vectors import StoreError, VectorStore

faiss = pytest.importorskip("faiss", reason="NOT TRIED WITH FAISS: it is not installed here")

DOCNOS = [f"d {number}" for number in range(5000)]


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 8), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def store(path: Path, *, complete: bool = True) -> VectorStore:
    made = VectorStore.create(path, dimension=8, settings={}, dtype="float32")
    made.append(DOCNOS, unit_vectors(len(DOCNOS)))
    if complete:
        made.complete()
    return made


def test_vectors_and_docnos_come_back_as_they_were(tmp_path: Path) -> None:
    before = store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    after = import_faiss(tmp_path / "faiss", tmp_path / "b")
    assert after.is_complete
    assert list(after.iter_docnos()) == DOCNOS
    np.testing.assert_array_equal(after.vectors(0, len(after)), before.vectors(0, len(before)))


def test_faiss_ranks_an_export_as_the_store_does(tmp_path: Path) -> None:
    own = store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    queries = unit_vectors(3, seed=1)
    scores, rows = faiss.read_index(str(tmp_path / "faiss" / "index")).search(queries, 10)
    hits = own.search(queries, 10)
    np.testing.assert_array_equal(rows, hits.rows)
    np.testing.assert_allclose(scores, hits.scores, atol=1e-6)


def test_an_import_can_take_half_the_room(tmp_path: Path) -> None:
    store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    assert import_faiss(tmp_path / "faiss", tmp_path / "b", dtype="float16").dtype == "float16"


def test_an_interrupted_index_is_not_exported(tmp_path: Path) -> None:
    store(tmp_path / "a", complete=False)
    with pytest.raises(StoreError, match="incomplete, interrupted after 5000"):
        export_faiss(tmp_path / "a", tmp_path / "faiss")
    assert not (tmp_path / "faiss").exists()


@pytest.mark.parametrize("missing", ["index", "docid"])
def test_a_folder_without_one_of_its_files_is_named(tmp_path: Path, missing: str) -> None:
    store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    (tmp_path / "faiss" / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"no file '{missing}'"):
        import_faiss(tmp_path / "faiss", tmp_path / "b")


def test_fewer_docids_than_vectors_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    (tmp_path / "faiss" / "docid").write_text("\n".join(DOCNOS[:-1]) + "\n")
    with pytest.raises(StoreError, match="4999 docids and 5000 vectors"):
        import_faiss(tmp_path / "faiss", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "faiss"]


def test_a_docid_that_cannot_be_stored_leaves_nothing(tmp_path: Path) -> None:
    store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    (tmp_path / "faiss" / "docid").write_text("\n".join([*DOCNOS[:-1], DOCNOS[0]]) + "\n")
    with pytest.raises(StoreError, match="docno 'd 0'"):
        import_faiss(tmp_path / "faiss", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "faiss"]


@pytest.mark.parametrize(
    "index", [faiss.IndexFlatL2(8), faiss.IndexHNSWFlat(8, 4, faiss.METRIC_INNER_PRODUCT)], ids=["L2", "HNSW"]
)
def test_another_kind_of_index_is_refused(tmp_path: Path, index: object) -> None:
    index.add(unit_vectors(2))  # type: ignore[attr-defined]
    faiss.write_index(index, str(tmp_path / "index"))
    (tmp_path / "docid").write_text("a\nb\n")
    with pytest.raises(StoreError, match="only an IndexFlatIP"):
        import_faiss(tmp_path, tmp_path / "b")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    store(tmp_path / "a")
    export_faiss(tmp_path / "a", tmp_path / "faiss")
    with pytest.raises(StoreError, match="exists"):
        export_faiss(tmp_path / "a", tmp_path / "faiss")
    with pytest.raises(StoreError, match="exists"):
        import_faiss(tmp_path / "faiss", tmp_path / "a")


def test_the_commands_do_the_same(tmp_path: Path) -> None:
    store(tmp_path / "a")
    run = CliRunner()
    done = run.invoke(app, ["pyserini", "export", str(tmp_path / "a"), str(tmp_path / "faiss"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout) == {"path": str(tmp_path / "faiss")}
    done = run.invoke(app, ["pyserini", "import", str(tmp_path / "faiss"), str(tmp_path / "b")])
    assert done.exit_code == 0 and done.stdout == f"wrote {tmp_path / 'b'}\n"
    assert list(VectorStore.open(tmp_path / "b").iter_docnos()) == DOCNOS
    again = run.invoke(app, ["pyserini", "import", str(tmp_path / "faiss"), str(tmp_path / "b")])
    assert again.exit_code == 2 and "exists" in again.stderr
