"""The records of finished problems, in SQLite: append-only, durable as soon as a call returns, readable by any tool.

One table, ``problems``: a row for each problem and configuration, with the record as JSON text (its schema is in
docs/synthesis.md). ``PRAGMA user_version`` is the version of the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1

Record = dict[str, Any]

_TABLE = """
CREATE TABLE IF NOT EXISTS problems (
    problem_id TEXT NOT NULL,
    configuration TEXT NOT NULL,
    schema INTEGER NOT NULL,
    is_solved INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (problem_id, configuration)
)"""
_COLUMNS = "problem_id, configuration, schema, is_solved, record"


class StoreError(OSError):
    """A file that is no store, one of a newer version, or one that cannot be opened now."""


class Store:
    """Finished problems, in the order in which they were added; a context manager that closes the file.

    Several processes may read while one writes.

    Args:
        path: The file, made where it is missing.

    Raises:
        StoreError: If the file is something else, was written by a newer version, or cannot be opened now.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Made in one thread and used from the thread of the event loop.
        self._database = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:  # locked, or a full disk
            self._database.close()
            raise StoreError(
                f"{path} cannot be opened now ({error}): try again when no program holds it and the disk has space"
            ) from error
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise StoreError(f"{path} is no store of problems ({error}): choose another file") from error
        except StoreError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        run = self._database.execute
        version = run("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise StoreError(f"{self.path} is of schema {version}, and {SCHEMA} is the newest known here: update radar")
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and ("problems" not in tables or version == 0):
            raise sqlite3.DatabaseError("it holds other tables")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")  # a problem is minutes of a GPU: it outlives a power failure
        if not tables:
            run("BEGIN IMMEDIATE")
            run(_TABLE)
            run(f"PRAGMA user_version = {SCHEMA}")
            run("COMMIT")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def add(self, record: Mapping[str, Any]) -> bool:
        """Keeps a record for good.

        Returns:
            Whether it is new; a problem that is there in this configuration stays as it is.

        Raises:
            sqlite3.OperationalError: If it cannot be written, such as on a full disk; the store is as it was.
        """
        row = (
            record["problem_id"],
            record["configuration"],
            record["schema"],
            is_solved(record),
            json.dumps(record, ensure_ascii=False, separators=(",", ":")),
        )
        statement = f"INSERT OR IGNORE INTO problems ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
        return self._database.execute(statement, row).rowcount == 1

    def has(self, problem_id: str, configuration: str) -> bool:
        """Says whether a problem is there."""
        return self.solved(problem_id, configuration) is not None

    def solved(self, problem_id: str, configuration: str) -> bool | None:
        """Says whether a problem has a rollout of reward 1; None if it isn't there."""
        key = (problem_id, configuration)
        query = "SELECT is_solved FROM problems WHERE problem_id = ? AND configuration = ?"
        row = self._database.execute(query, key).fetchone()
        return None if row is None else bool(row[0])

    def problem(self, problem_id: str, configuration: str) -> list[Any] | None:
        """Returns text, answer and choices of a problem as they were when it was solved; None if it isn't there."""
        query = (
            "SELECT json_extract(record, '$.problem', '$.answer', '$.choices') FROM problems "
            "WHERE problem_id = ? AND configuration = ?"
        )
        row = self._database.execute(query, (problem_id, configuration)).fetchone()
        return None if row is None else json.loads(row[0])

    def get(self, problem_id: str) -> list[Record]:
        """Returns a problem's records, one for each configuration."""
        rows = self._database.execute("SELECT record FROM problems WHERE problem_id = ? ORDER BY rowid", (problem_id,))
        return [json.loads(record) for (record,) in rows]

    def configurations(self) -> dict[str, int]:
        """Returns how many problems there are of each configuration."""
        return dict(self._database.execute("SELECT configuration, count(*) FROM problems GROUP BY configuration"))

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM problems").fetchone()[0]

    def __iter__(self) -> Iterator[Record]:
        """Yields records in the order in which they were added, one in memory at a time."""
        last = -1
        # A query for each, so that a slow reader doesn't keep a writer's log from being cleared.
        while row := self._database.execute(
            "SELECT rowid, record FROM problems WHERE rowid > ? ORDER BY rowid LIMIT 1", (last,)
        ).fetchone():
            last, record = row
            yield json.loads(record)

    def merge(self, paths: Iterable[str | Path]) -> int:
        """Takes over the records of other stores, those of the shards of a run.

        Returns:
            How many were new.

        Raises:
            StoreError: If one of them is missing or no store; those before it are merged.
        """
        before = len(self)
        for path in paths:
            if not Path(path).is_file():
                raise StoreError(f"{path}: there is no such store")
            Store(path).close()  # it is one, of a version known here
            self._database.execute("ATTACH ? AS other", (str(path),))
            try:
                self._database.execute(
                    f"INSERT OR IGNORE INTO problems ({_COLUMNS}) SELECT {_COLUMNS} FROM other.problems ORDER BY rowid"
                )
            finally:
                self._database.execute("DETACH other")
        return len(self) - before


def is_solved(record: Mapping[str, Any]) -> bool:
    """Says whether a rollout of a record ended with reward 1."""
    return any(record["nodes"][path[-1]]["reward"] == 1.0 for path in record["rollouts"])
