"""Documents by docno: texts memory-mapped on disk, so that a million of them cost no memory but their names."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from training.data.records import DataError, Place, identifier, read_records, text
from training.data.tables import cache_file, digest, new_table, open_table, stamp

DOCNO_NAMES = ("docno", "_id", "doc_id")

SCHEMA = pa.schema([("docno", pa.string()), ("text", pa.large_string()), ("digest", pa.uint64())])


@dataclass(frozen=True)
class _Part:
    """One table of documents, its docnos distinct, and where it came from."""

    source: str
    fingerprint: str
    table: pa.Table


class Documents:
    """Texts by docno. Made by :meth:`from_files` or :meth:`from_texts`; several become one by :meth:`joined`.

    Every document has a number, from 0 in the order of ``docnos()``, the same in every run on the same input.

    Attributes:
        source: Where they came from, for messages.
        fingerprint: Changes when a docno or a text may have changed.
    """

    def __init__(self, parts: Iterable[_Part]):
        unique = {part.fingerprint: part for part in parts}
        self._parts = [part for part in unique.values() if part.table.num_rows] or list(unique.values())[:1]
        table = pa.concat_tables([SCHEMA.empty_table(), *(part.table for part in self._parts)])
        self._texts = table.column("text")
        self._digests = table.column("digest").to_numpy()
        self._numbers: dict[str, int] = {}
        rows = array("q")
        for row, docno in enumerate(_strings(table.column("docno"))):
            number = self._numbers.setdefault(docno, len(rows))
            if number == len(rows):
                rows.append(row)
            elif self._digests[rows[number]] != self._digests[row]:
                raise DataError(
                    f"docno {docno!r} has one text in {self._source(rows[number])} and another in {self._source(row)}: "
                    "give one of the two documents another docno"
                )
        self._rows = np.array(rows, dtype=np.int64)
        self.source = _short([part.source for part in self._parts])
        self.fingerprint = (
            self._parts[0].fingerprint if len(self._parts) == 1 else digest(*(part.fingerprint for part in self._parts))
        )

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Sequence[str | Path],
        cache: str | Path,
        *,
        text_fields: Sequence[str] = ("title", "text"),
    ) -> Documents:
        """Reads documents from JSONL, gzipped JSONL or Parquet; a second call on unchanged files reads the cache.

        Args:
            paths: One file or several.
            cache: Folder for the memory-mapped copy. It may be deleted when nobody uses it.
            text_fields: The fields whose values, joined by a space, are the text. The last is required; the others
                may be missing, null or empty.

        Raises:
            DataError: For a broken line, no docno (``docno``, ``_id`` or ``doc_id``), a text that is null, NaN, empty
                or no string, or one docno with two texts.
            OSError: If a file cannot be read.
        """
        files = [paths] if isinstance(paths, str | Path) else list(paths)
        if not files or not text_fields:
            raise DataError("documents need at least one file and one text field")
        key = digest("documents", *map(stamp, files), list(text_fields))
        path = cache_file(cache, "documents", key)
        if not path.exists():
            with collecting(path) as collected:
                for file in files:
                    for place, record in read_records(file):
                        docno = _docno(record, place)
                        collected.add(docno, join_fields(record, text_fields, place, f"document {docno!r}"), place)
                if not len(collected):
                    raise DataError(f"{_short(files)}: holds no document")
        return cls.open(path, source=_short(files), fingerprint=key)

    @classmethod
    def from_texts(cls, texts: Mapping[str, str]) -> Documents:
        """Keeps a few documents in memory.

        Raises:
            DataError: For a docno that is no string, or a text that is null, NaN, empty or no string.
        """
        place = "the texts given"
        for docno in texts:
            if not isinstance(docno, str):
                raise DataError(f"{place}: docno {docno!r} is a {type(docno).__name__}: it must be a string")
            identifier(docno, place, "a docno")
        values = [text(value, place, f"the text of {docno!r}") for docno, value in texts.items()]
        digests = [text_digest(value) for value in values]
        table = pa.table([list(texts), values, digests], schema=SCHEMA)
        return cls([_Part("texts given in memory", digest("texts", list(texts), digests), table)])

    @classmethod
    def open(cls, path: Path, *, source: str, fingerprint: str) -> Documents:
        """Memory-maps a table that :func:`collecting` wrote."""
        return cls([_Part(source, fingerprint, open_table(path))])

    @classmethod
    def joined(cls, several: Sequence[Documents]) -> Documents:
        """Returns the documents of all, without copying texts; the first keeps its numbers.

        Raises:
            DataError: If one docno has two texts; it names both sources.
        """
        distinct = list({documents.fingerprint: documents for documents in several if len(documents)}.values())
        if len(distinct) == 1:
            return distinct[0]
        return cls(part for documents in distinct or several for part in documents._parts)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, docno: object) -> bool:
        return docno in self._numbers

    def number(self, docno: str) -> int:
        """Returns a document's number, its place in ``docnos()``.

        Raises:
            DataError: If there is no such document.
        """
        number = self._numbers.get(docno)
        if number is None:
            raise DataError(f"there is no document {docno!r} in {self.source}: add it, or check the docno's spelling")
        return number

    def text(self, docno: str) -> str:
        """Returns a document's text, read from disk.

        Raises:
            DataError: If there is no such document.
        """
        return self._texts[int(self._rows[self.number(docno)])].as_py()

    def text_digest(self, docno: str) -> int | None:
        """Returns 64 bits that equal texts share, without reading the text; None if there is no such document."""
        number = self._numbers.get(docno)
        return None if number is None else int(self._digests[self._rows[number]])

    def docnos(self) -> list[str]:
        """Returns all docnos by their numbers."""
        return list(self._numbers)

    def _source(self, row: int) -> str:
        starts = np.cumsum([0, *(part.table.num_rows for part in self._parts)])
        return self._parts[bisect_right(starts, row) - 1].source


class Collected:
    """Documents on their way to disk; see :func:`collecting`."""

    def __init__(self, append: Callable[..., None], base: Documents | None):
        self._append, self._base = append, base
        self._rows: dict[str, int] = {}
        self._digests, self._lines = array("Q"), array("q")
        self._files: list[tuple[int, str]] = []  # (first row, path)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, docno: str, text: str, place: Place) -> None:
        """Keeps a document, unless it is there already.

        Raises:
            DataError: If it is there with another text.
        """
        seen, new = self.text_digest(docno), text_digest(text)
        if seen is None:
            if not self._files or self._files[-1][1] != place.path:
                self._files.append((len(self._rows), place.path))
            self._rows[docno] = len(self._rows)
            self._digests.append(new)
            self._lines.append(place.line)
            self._append(docno, text, new)
        elif seen != new:
            raise DataError(
                f"{place}: docno {docno!r} has another text in {self._where(docno)}: one document, one text; give one "
                "of the two another docno"
            )

    def text_digest(self, docno: str) -> int | None:
        """Returns 64 bits that equal texts share; None if no such document was seen."""
        row = self._rows.get(docno)
        if row is not None:
            return self._digests[row]
        return None if self._base is None else self._base.text_digest(docno)

    def _where(self, docno: str) -> str:
        row = self._rows.get(docno)
        if row is None:
            assert self._base is not None
            return self._base.source
        path = self._files[bisect_right(self._files, row, key=lambda start: start[0]) - 1][1]
        return str(Place(path, self._lines[row]))


@contextmanager
def collecting(path: Path, base: Documents | None = None) -> Iterator[Collected]:
    """Collects documents into a table that appears under its name when whole; those of ``base`` are not copied."""
    with new_table(path, SCHEMA) as append:
        yield Collected(append, base)


def text_digest(value: str) -> int:
    """Returns 64 bits that equal texts share."""
    return int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "little")


def join_fields(record: Mapping[str, Any], fields: Sequence[str], place: Place, whose: str) -> str:
    """Returns the text of a record: its fields joined by a space, the last one required.

    Raises:
        DataError: If a field is no string, the last one is missing, null or NaN, or nothing but white space is left.
    """
    *optional, required = fields
    if required not in record:
        have = ", ".join(sorted(map(str, record))) or "nothing"
        raise DataError(f"{place}: {whose} has no field {required!r}; it has {have}")
    values = [record.get(name) for name in optional]
    values = [value for value in values if value not in (None, "") and value == value]  # a NaN is not itself
    if record[required] != "" or not values:
        values.append(record[required])
    what = f"the text of {whose}"
    # Two steps: any part may be blank, the whole may not.
    parts = [value if isinstance(value, str) else text(value, place, what) for value in values]
    return text(" ".join(parts), place, what)


def _docno(record: Mapping[str, Any], place: Place) -> str:
    for name in DOCNO_NAMES:
        if name in record:
            return identifier(record[name], place, f"the docno in {name!r}")
    raise DataError(f"{place}: has no docno: name a field {', '.join(DOCNO_NAMES)}")


def _strings(column: pa.ChunkedArray) -> Iterator[str]:
    for chunk in column.chunks:
        yield from chunk.to_pylist()


def _short(names: Sequence[str | Path]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "no documents"
