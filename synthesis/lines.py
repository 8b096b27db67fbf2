"""Files of lines, JSON or tab-separated, plain or gzipped: every record comes with its place.

Whatever such a file holds that it should not is an error of the caller's kind that names file, line and remedy.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: JSON's escapes can say it, and no file can hold it."""


class Place(NamedTuple):
    """Where a record stands: a file and its line, counted from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def json_lines(path: Path, kind: type[ValueError] = ValueError) -> Iterator[tuple[Place, Any]]:
    """Streams the values of a file of JSON lines; blank lines are passed over.

    Args:
        path: The file; gzipped if it ends with ``.gz``.
        kind: The class of errors.

    Raises:
        ValueError: Of that kind, for a line that is no JSON in UTF-8, or damaged gzip data.
        OSError: If the file cannot be read.
    """
    for place, line in _lines(path, kind):
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise kind(f"{place}: not JSON in UTF-8 ({error}): one object a line is expected") from error
        yield place, value


def tab_separated_lines(path: Path, kind: type[ValueError] = ValueError) -> Iterator[tuple[Place, list[str]]]:
    """Streams the fields of a file of tab-separated lines; see :func:`json_lines`."""
    for place, line in _lines(path, kind):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise kind(f"{place}: not UTF-8 ({error}): convert the file") from error
        yield place, text.rstrip("\r\n").split("\t")


def _lines(path: Path, kind: type[ValueError]) -> Iterator[tuple[Place, bytes]]:
    number = 0
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield Place(path, number), line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            place = Place(path, number + 1)
            raise kind(f"{place}: the gzip data is damaged ({error}): copy it again") from error
