"""The SQLite manifest of a vector store: its settings, its shards and the docno of every row.

A connection lives for one operation. Threads and forked workers therefore share nothing, an object that
holds a manifest can be pickled, and there is nothing to close.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x52614465  # "RaDe": tells our manifests from other programs' SQLite files
_LOOKUP_SIZE = 500  # values in one IN (...): below the oldest SQLite limit of 999
_PAGE_SIZE = 10_000
_WAIT_SECONDS = 60

_SCHEMA = f"""
BEGIN;
CREATE TABLE store (dimension INTEGER NOT NULL, dtype TEXT NOT NULL, settings TEXT NOT NULL,
                    complete INTEGER NOT NULL);
CREATE TABLE shards (number INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, rows INTEGER NOT NULL,
                     bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, largest_norm REAL NOT NULL,
                     largest_bfloat16_error REAL NOT NULL);
CREATE TABLE docnos (row INTEGER PRIMARY KEY, docno TEXT NOT NULL UNIQUE);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class StoreError(ValueError):
    """A vector store that cannot be used as asked; the message says which, why and what to do."""


class DuplicateDocnoError(StoreError):
    """A docno was appended twice."""


@dataclass(frozen=True)
class Shard:
    """One committed file of rows.

    ``largest_norm`` is the largest Euclidean norm of its rows and ``largest_bfloat16_error`` the largest norm
    of what rounding a row to bfloat16 takes away: the search's error bound is made of them.
    """

    number: int
    first_row: int
    rows: int
    bytes: int
    sha256: str
    largest_norm: float
    largest_bfloat16_error: float


class Manifest:
    """Reads and writes one ``manifest.sqlite``; knows nothing of vectors."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: Path, *, dimension: int, dtype: str, settings: Mapping[str, Any]) -> Manifest:
        """Write an empty manifest; it appears under its name only when it is whole."""
        aside = path.with_name(path.name + ".new")
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
            text = json.dumps(dict(settings), sort_keys=True)
            connection.execute("INSERT INTO store VALUES (?, ?, ?, 0)", (dimension, dtype, text))
        os.replace(aside, path)
        sync_folder(path.parent)
        return cls(path)

    def read_store(self) -> tuple[int, str, dict[str, Any]]:
        """Check that this is a manifest we can read and return its dimension, dtype and settings.

        Raises:
            StoreError: for another program's file, a damaged one, or another schema version.
        """
        try:
            with closing(self._connect()) as connection:
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if application != _APPLICATION_ID:
                    raise StoreError(f"{self.path} is not the manifest of a vector store.")
                if version != SCHEMA_VERSION:
                    raise StoreError(
                        f"{self.path} has schema version {version}, and this software reads version "
                        f"{SCHEMA_VERSION}: index the collection again, or install the version that wrote it."
                    )
                row = connection.execute("SELECT dimension, dtype, settings FROM store").fetchone()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} is not a readable store manifest: {error}.") from error
        return row[0], row[1], json.loads(row[2])

    def shards(self) -> list[Shard]:
        """All committed shards, in row order."""
        with closing(self._connect()) as connection:
            return [Shard(*row) for row in connection.execute("SELECT * FROM shards ORDER BY number")]

    def __len__(self) -> int:
        with closing(self._connect()) as connection:
            return _next_shard(connection)[1]

    @property
    def is_complete(self) -> bool:
        """Whether :meth:`complete` was called after the last append."""
        with closing(self._connect()) as connection:
            return bool(connection.execute("SELECT complete FROM store").fetchone()[0])

    def complete(self) -> None:
        """Mark the end of an indexing run."""
        with closing(self._connect()) as connection:
            try:
                connection.execute("UPDATE store SET complete = 1")
            except sqlite3.OperationalError as error:
                raise self._explained(error) from error

    def append(self, docnos: Sequence[str], write_shard: Callable[[int, int], Shard]) -> None:
        """Commit one shard and its docnos in one transaction.

        The write lock is taken before ``write_shard(number, first_row)`` runs, so two processes never write
        the same shard; what it writes must be durable when it returns, because the commit then vouches for it.

        Raises:
            DuplicateDocnoError: a docno is already stored.
            OSError: no room is left, or the store is read-only.
        """
        with closing(self._connect()) as connection:  # closing without a commit rolls back
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE store SET complete = 0")  # first: it finds a read-only store
                number, first_row = _next_shard(connection)
                self._refuse_stored(connection, docnos)
                shard = write_shard(number, first_row)
                connection.executemany("INSERT INTO docnos VALUES (?, ?)", enumerate(docnos, first_row))
                values = astuple(shard)
                connection.execute(f"INSERT INTO shards VALUES ({_marks(values)})", values)
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise self._explained(error) from error

    def docnos(self, rows: np.ndarray) -> list[str]:
        """The docno of each row number, in the order given.

        Raises:
            StoreError: a row is not in the store.
        """
        wanted, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        with closing(self._connect()) as connection:
            found = dict(_select(connection, "SELECT row, docno FROM docnos WHERE row", wanted.tolist()))
            if len(found) < len(wanted):
                missing = next(row for row in wanted.tolist() if row not in found)
                size = _next_shard(connection)[1]
                raise StoreError(f"{self.path} has no row {missing}: it holds rows 0 to {size - 1}.")
        ordered = [found[row] for row in wanted.tolist()]
        return [ordered[place] for place in places.tolist()]

    def rows(self, docnos: Sequence[str]) -> np.ndarray:
        """The row of each docno as int64, −1 where the store lacks it."""
        with closing(self._connect()) as connection:
            found = _rows_of(connection, docnos)
        return np.fromiter((found.get(docno, -1) for docno in docnos), dtype=np.int64, count=len(docnos))

    def iter_docnos(self, start: int = 0) -> Iterator[str]:
        """Docnos in row order from row ``start``, read a page at a time so that an append can go between."""
        while True:
            with closing(self._connect()) as connection:
                page = connection.execute(
                    "SELECT docno FROM docnos WHERE row >= ? ORDER BY row LIMIT ?", (start, _PAGE_SIZE)
                ).fetchall()
            yield from (docno for (docno,) in page)
            start += len(page)
            if len(page) < _PAGE_SIZE:
                return

    def check(self) -> None:
        """Raise a StoreError where SQLite finds its own file damaged."""
        with closing(self._connect()) as connection:
            (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise StoreError(f"{self.path} is damaged ({answer}): index the collection again.")

    def _connect(self) -> sqlite3.Connection:
        # mode=rw never creates a file, and SQLite itself falls back to reading where it may not write.
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _refuse_stored(self, connection: sqlite3.Connection, docnos: Sequence[str]) -> None:
        stored = _rows_of(connection, docnos)
        if stored:
            docno, row = min(stored.items(), key=lambda item: item[1])
            raise DuplicateDocnoError(
                f"docno {docno!r} is already in {self.path.parent} at row {row} ({len(stored)} of the "
                f"{len(docnos)} appended docnos are): leave out stored documents, or use another folder."
            )

    def _explained(self, error: sqlite3.OperationalError) -> Exception:
        """What SQLite could not do, in words that say what the user can."""
        kind = error.sqlite_errorcode & 0xFF
        folder = self.path.parent
        if kind in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return OSError(
                f"The manifest of {folder} could not be written ({error}): free some space and run again. What "
                "was committed before stays readable."
            )
        if kind == sqlite3.SQLITE_READONLY:
            return PermissionError(f"{folder} is read-only: copy the store to a folder you may write to.")
        if kind == sqlite3.SQLITE_BUSY:
            return StoreError(f"{folder} is being written by another process: wait for it to end.")
        return error


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _next_shard(connection: sqlite3.Connection) -> tuple[int, int]:
    last = connection.execute("SELECT number + 1, first_row + rows FROM shards ORDER BY number DESC LIMIT 1").fetchone()
    return last or (0, 0)


def _rows_of(connection: sqlite3.Connection, docnos: Sequence[str]) -> dict[str, int]:
    return dict(_select(connection, "SELECT docno, row FROM docnos WHERE docno", sorted(set(docnos))))


def _select(connection: sqlite3.Connection, query: str, values: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Rows where the query's column is one of ``values``; sorted values keep the pages read close together."""
    for start in range(0, len(values), _LOOKUP_SIZE):
        some = values[start : start + _LOOKUP_SIZE]
        yield from connection.execute(f"{query} IN ({_marks(some)})", some)


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
