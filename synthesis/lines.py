"""Files of lines, JSON or tab-separated, plain or gzipped: every record comes with its place.

Whatever such a file holds that it should not is an error of the caller's kind that names file, line and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch_radar.lines import Fail, read_json_lines, read_text_lines

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
        path: The file, gzipped or not.
        kind: The class of errors.

    Raises:
        ValueError: Of that kind, for a line that is no JSON in UTF-8, or damaged gzip data.
        OSError: If the file cannot be read.
    """
    return ((Place(path, number), value) for number, value in read_json_lines(path, _fail(path, kind)))


def tab_separated_lines(path: Path, kind: type[ValueError] = ValueError) -> Iterator[tuple[Place, list[str]]]:
    """Streams the fields of a file of tab-separated lines; see :func:`json_lines`."""
    for number, line in read_text_lines(path, _fail(path, kind)):
        yield Place(path, number), line.rstrip("\r\n").split("\t")


def _fail(path: Path, kind: type[ValueError]) -> Fail:
    return lambda line, problem: kind(f"{Place(path, line)}: {problem}")
