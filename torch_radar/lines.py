"""Lines of text files, plain or gzipped, each with its number: what all readers of JSONL, TSV and TREC files stand on.

What a file holds that it should not is an error of the caller's making, which is told the line and the problem.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Fail = Callable[[int, str], Exception]
"""Makes the error that is raised, of a line's number and what is wrong there."""

_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def read_lines(path: str | Path, fail: Fail) -> Iterator[tuple[int, bytes]]:
    r"""Yields (number from 1, bytes) of each line that is not blank, without a byte order mark.

    Lines end at ``\n`` only: a form feed or U+2028 inside a text is part of the text.

    Args:
        path: The file; gzipped if it begins like one or is named so.
        fail: For damaged gzip data.

    Raises:
        OSError: If the file cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as probe:
        is_gzip = probe.read(2) == _GZIP_MAGIC or path.suffix == ".gz"
    number = 0
    with gzip.open(path, "rb") if is_gzip else open(path, "rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line.strip():
                    yield number, line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise fail(number + 1, f"the gzip data is damaged or cut off ({error}): copy it again") from error


def read_text_lines(path: str | Path, fail: Fail) -> Iterator[tuple[int, str]]:
    """Yields the lines as text, with their line ends; see :func:`read_lines`. A line that is not UTF-8 fails too."""
    for number, line in read_lines(path, fail):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            problem = f"is not UTF-8 (byte {error.start + 1} of the line): convert the file, e.g. with iconv"
            raise fail(number, problem) from error
        if text.strip():
            yield number, text


def read_json_lines(path: str | Path, fail: Fail) -> Iterator[tuple[int, Any]]:
    """Yields the value of each line; see :func:`read_lines`. A line that is no JSON fails too."""
    for number, line in read_lines(path, fail):
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise fail(number, f"not JSON in UTF-8 ({error}): one object a line is expected") from error
        yield number, value
