"""Records of JSONL, gzipped JSONL and Parquet files, each with its place.

Whatever a file holds that it should not is a :class:`DataError` that names the file, the line and the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from torch_radar.lines import read_text_lines

_PARQUET_MAGIC = b"PAR1"
_PARQUET_ROWS = 256  # rows that are Python objects at one time


class DataError(ValueError):
    """Training data that cannot be used; the message says where, what and what to do."""


class Place(NamedTuple):
    """Where a record stands: a file and its line (of Parquet: its row), counted from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def read_records(path: str | Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    r"""Streams the objects of a JSONL file (plain or gzip) or the rows of a Parquet file.

    The kind is known by the file's first bytes. Lines end at ``\n`` only; blank lines are passed over.

    Raises:
        DataError: For damaged data, a line that is not UTF-8 or not a JSON object.
        OSError: If the file cannot be opened.
    """
    with open(path, "rb") as probe:
        magic = probe.read(4)
    if magic == _PARQUET_MAGIC:
        yield from _parquet_records(path)
        return
    for number, line in read_text_lines(path, lambda line, problem: DataError(f"{Place(str(path), line)}: {problem}")):
        place = Place(str(path), number)
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: is not valid JSON ({error}): one object a line is expected") from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: is a JSON {type(record).__name__}: one object a line is expected")
        yield place, record


def _parquet_records(path: str | Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield Place(str(path), number), record
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}:{number + 1}: the Parquet data is damaged ({error}): copy or write it again"
        ) from error


def identifier(value: Any, place: Place | str, what: str) -> str:
    """Returns a docno, query id or label: a string that is not blank, or a whole number written as one.

    Raises:
        DataError: For anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {what} is {_shown(value)}: it must be a string that is not empty")
    return _encodable(value, place, what)


def text(value: Any, place: Place | str, what: str) -> str:
    """Returns a text as it stands.

    Raises:
        DataError: If it is null, NaN, no string, blank, or holds half of a surrogate pair.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {what} is {_shown(value)}: give it a text or leave the record out")
    return _encodable(value, place, what)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return "empty"
    if isinstance(value, bool | int | float):
        return repr(value)
    return "null" if value is None else f"a {type(value).__name__}"


def _encodable(value: str, place: Place | str, what: str) -> str:
    # JSON escapes can smuggle in lone surrogates, which no tokenizer and no file can hold.
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: {what} holds half of a surrogate pair at character {error.start}: repair the JSON escapes"
        ) from error
    return value
