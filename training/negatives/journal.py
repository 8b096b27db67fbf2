"""A long piece of work's journal: blocks of bytes and a JSON state that are kept together or not at all.

The folder holds ``data``, appended block by block, and ``state.json``, replaced after each block's bytes are on disk.
The state says how many bytes count. What a killed run wrote behind them, a cut line say, is dropped when the journal
is opened again, and the block is made anew. So a block is never lost and never there twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from training.data.records import DataError


class JournalError(DataError):
    """A journal that cannot be gone on with; the message says what to do."""


class Journal:
    """An open journal; made by :func:`journal`.

    Attributes:
        data: The file of all blocks so far.
        state: The state after the last block; ``{}`` of a new journal.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.data = folder / "data"
        self._state_file = folder / "state.json"
        self._settings = settings
        self.state: dict[str, Any] = {}
        self._size = 0
        if self._state_file.exists():
            record = json.loads(self._state_file.read_text(encoding="utf-8"))
            require_same(settings, record["settings"], folder)
            self.state, self._size = record["state"], record["bytes"]
            if not self.data.exists() or self.data.stat().st_size < self._size:
                raise JournalError(
                    f"{self.data} holds less than the {self._size} bytes that were written: delete {folder} and start "
                    "again"
                )
            os.truncate(self.data, self._size)
        else:
            self.data.write_bytes(b"")
            self._commit()

    def append(self, block: bytes, state: dict[str, Any]) -> None:
        """Adds a block and replaces the state: both, durably, or neither."""
        with open(self.data, "ab") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
        self.state, self._size = state, self._size + len(block)
        self._commit()

    def _commit(self) -> None:
        write_json(self._state_file, {"settings": self._settings, "state": self.state, "bytes": self._size})


@contextmanager
def journal(folder: Path, settings: dict[str, Any]) -> Iterator[Journal]:
    """Opens the journal in ``folder``, which is made if absent, for one process at a time.

    Raises:
        JournalError: If another process is writing it, it was begun with other settings, or it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield Journal(folder, settings)
    except Timeout as error:
        message = f"{folder}: another process is at work there: wait for it, or choose another output"
        raise JournalError(message) from error


def require_same(asked: dict[str, Any], recorded: dict[str, Any], path: Path) -> None:
    """Checks settings against recorded ones.

    Raises:
        JournalError: Names each setting that differs, with both values.
    """
    plain = json.loads(json.dumps(asked))
    differing = [key for key in sorted(plain.keys() | recorded.keys()) if plain.get(key) != recorded.get(key)]
    if differing:
        shown = "; ".join(f"{key}: there {recorded.get(key)!r}, asked {plain.get(key)!r}" for key in differing)
        raise JournalError(
            f"{path} was begun with other settings ({shown}): use the same, choose another output, or delete it"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that appears whole; what a killed write left aside is overwritten by the next."""
    aside = path.with_name(f"{path.name}.partial")
    with open(aside, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
