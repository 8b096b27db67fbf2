"""BM25 by PISA: whole or absent, for any docno and any text."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyterrier_radar._bm25 import bm25, build_bm25

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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.sets(DOCNOS, min_size=1, max_size=4))
def test_every_docno_comes_back_as_it_was(tmp_path: Path, docnos: set[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    index = build_bm25(folder, [{"docno": docno, "text": "hello"} for docno in docnos])
    assert set(bm25(index)(QUERIES)["docno"]) == docnos
