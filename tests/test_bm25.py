"""BM25 by PISA: whole or absent, for any docno and any text."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radar_bm25.index import bm25, build_bm25

QUERIES = pd.DataFrame({"qid": ["1", "2"], "query": ["hello lemma", "? ^ : \" ' { x^2"]})


def documents() -> Iterator[dict[str, str]]:
    yield {"docno": "a", "text": "hello\nworld"}
    yield {"docno": "b", "text": "hello lemma"}


def test_the_documents_with_the_terms_are_found(tmp_path: Path) -> None:
    results = bm25(build_bm25(tmp_path / "index", documents()))(QUERIES)
    assert list(results["docno"]) == ["b", "a"]
    assert list(results["qid"]) == ["1", "1"]


def test_the_index_that_is_there_is_used(tmp_path: Path) -> None:
    build_bm25(tmp_path / "index", documents())
    again = build_bm25(tmp_path / "index", iter([{"docno": "z", "text": "hello"}]))
    assert set(bm25(again)(QUERIES)["docno"]) == {"a", "b"}


def test_a_failing_source_raises_its_error_and_leaves_no_index(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, str]]:
        yield from documents()
        raise ValueError("line 3 is broken")

    with pytest.raises(ValueError, match="line 3 is broken"):
        build_bm25(tmp_path / "index", failing())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [[], [""], ["定理", "∫"]])
def test_a_collection_without_terms_is_an_error_not_an_abort(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(ValueError, match=f"none of the {len(texts)} documents has a term"):
        build_bm25(tmp_path / "index", ({"docno": str(i), "text": t} for i, t in enumerate(texts)))
    assert list(tmp_path.iterdir()) == []


DOCNOS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=3, deadline=None)
@given(st.sets(DOCNOS, min_size=1, max_size=40))
def test_every_docno_comes_back_as_it_was(tmp_path: Path, docnos: set[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    index = build_bm25(folder, [{"docno": docno, "text": "hello"} for docno in docnos])
    assert set(bm25(index)(QUERIES)["docno"]) == docnos


def test_a_disk_that_runs_full_is_an_error_and_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radar_bm25.index.LEAST_FREE", shutil.disk_usage(tmp_path).total + 1)
    with pytest.raises(OSError, match="No space left on device: less than .* MiB free"):
        build_bm25(tmp_path / "index", documents())
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_dies_is_an_error_and_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radar_bm25.index.STEMMER", "none-such")
    with pytest.raises(OSError, match="PISA failed to index .*: ValueError: 'none-such' is not a valid PisaStemmer"):
        build_bm25(tmp_path / "index", documents())
    assert list(tmp_path.iterdir()) == []


def test_what_killed_builds_left_goes_at_the_next_build_unless_it_may_be_under_way(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in ("index.partial-old", "index.partial-new", "other.partial-old"))
    for folder in (old, new, other):
        (folder / "index").mkdir(parents=True)
        (folder / "index" / "part").touch()
    two_days_ago = time.time() - 2 * 86_400
    for path in (old / "index" / "part", old / "index", old, new, other / "index" / "part", other / "index", other):
        os.utime(path, (two_days_ago, two_days_ago))
    build_bm25(tmp_path / "index", documents())
    assert {path.name for path in tmp_path.iterdir()} == {"index", new.name, other.name}


def test_searching_writes_nothing_into_a_finished_index(tmp_path: Path) -> None:
    index = build_bm25(tmp_path / "index", documents())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")}
    bm25(index)(QUERIES)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "index").rglob("*")} == before
