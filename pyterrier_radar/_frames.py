"""What the transformers read from frames: texts and vectors, checked, each problem named by its record; and ranks."""

import re
from collections.abc import Hashable, Iterable
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import pyterrier as pt

_WINDOW = re.compile(r"(.*)%p\d+-\d+", re.DOTALL)

Item = TypeVar("Item", bound=Hashable)
Id = Literal["qid", "docno"]


def document_of(docno: str) -> str:
    """The docno of the document that a window of :class:`SlidingWindows` is cut from; any other docno as it is."""
    window = _WINDOW.fullmatch(docno)
    return window[1] if window else docno


def distinct(items: Iterable[Item]) -> tuple[list[Item], np.ndarray]:
    """The distinct items in order of appearance and, for each item given, its place among them (int64)."""
    places: dict[Item, int] = {}
    rows = np.array([places.setdefault(item, len(places)) for item in items], dtype=np.int64)
    return list(places), rows


def texts(frame: pd.DataFrame, column: str, id_column: Id) -> list[str]:
    """The texts of a column.

    Raises:
        ValueError: One is missing or no string; the message names its qid or docno.
    """
    values = frame[column].tolist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(
                f"{_name(frame, row, id_column)} has {value!r} in column {column!r} where text is needed: "
                "fill it in or drop the row"
            )
    return values


def queries(frame: pd.DataFrame) -> list[str]:
    """The queries of a frame, none of them blank.

    Raises:
        ValueError: A query is missing or blank; the message names its qid.
    """
    values = texts(frame, "query", "qid")
    for row, value in enumerate(values):
        if not value.strip():
            raise ValueError(f"{_name(frame, row, 'qid')} has an empty query: fill it in or drop the row")
    return values


def vectors(frame: pd.DataFrame, column: str, id_column: Id, dimension: int | None = None) -> list[np.ndarray]:
    """The vectors of a column, one (dimension,) array a row.

    Args:
        frame: the frame.
        column: ``query_vec`` or ``doc_vec``.
        id_column: the column that names a row in messages.
        dimension: what is expected; the size of the first vector where None.

    Raises:
        ValueError: One is missing or has another size; the message names its qid or docno.
    """
    values = frame[column].tolist()
    for row, value in enumerate(values):
        shape = np.shape(value)
        dimension = shape[0] if dimension is None and len(shape) == 1 else dimension
        if shape != (dimension,):
            raise ValueError(
                f"{_name(frame, row, id_column)} has a {column!r} of shape {shape} where ({dimension},) is needed: "
                "was it made by another model?"
            )
    return values


def require_distinct(frame: pd.DataFrame) -> None:
    """Checks that no document is listed twice for a query.

    Raises:
        ValueError: One is; the message names both.
    """
    if len(twice := frame[frame.duplicated(["qid", "docno"])]):
        qid, docno = twice.iloc[0][["qid", "docno"]]
        raise ValueError(f"docno {docno!r} of qid {qid!r} is listed twice: drop the duplicate")


def by_rank(frame: pd.DataFrame) -> pd.DataFrame:
    """Sorts by query, descending score and old rank if any, keeps the order of equals, numbers the ranks."""
    query_order = pd.factorize(frame["qid"])[0]
    old_rank = frame["rank"] if "rank" in frame.columns else np.zeros(len(frame))
    order = np.lexsort((np.arange(len(frame)), old_rank, -frame["score"], query_order))
    return pt.model.add_ranks(frame.iloc[order].reset_index(drop=True))


def _name(frame: pd.DataFrame, row: int, id_column: Id) -> str:
    return f"{id_column} {frame[id_column].iloc[row]!r}" if id_column in frame.columns else f"row {row}"
