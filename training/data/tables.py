"""Tables that are written once, row by row, and memory-mapped ever after: Arrow streams in a cache folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa

from torch_radar.files import replacing
from training.data.records import DataError

DEFAULT_CACHE = Path("~/.cache/radar/training")

_FORMAT = 1  # raise it when a table's columns or what they mean change: older files are then not found
_BATCH_ROWS = 1024
_BATCH_CHARACTERS = 8 << 20


def digest(*parts: Any) -> str:
    """Returns 32 hexadecimal digits that depend on the parts (JSON values) and on this version of the tables."""
    return blake2b(json.dumps([_FORMAT, *parts]).encode(), digest_size=16).hexdigest()


def stamp(path: str | Path) -> tuple[str, int, int]:
    """Returns a file's path, size and time of change: another stamp, another content."""
    status = Path(path).stat()
    return str(Path(path).resolve()), status.st_size, status.st_mtime_ns


def cache_file(cache: str | Path, kind: str, key: str) -> Path:
    """Returns the path of a table in the cache."""
    return Path(cache).expanduser() / f"{kind}-{key}.arrow"


@contextmanager
def new_table(path: Path, schema: pa.Schema) -> Iterator[Callable[..., None]]:
    """Gives a function that appends one row (a value per column); the table appears under its name when whole."""
    columns: list[list[Any]] = [[] for _ in schema]
    characters = 0

    def flush() -> None:
        nonlocal characters
        arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
        writer.write_batch(pa.record_batch(arrays, schema=schema))
        for values in columns:
            values.clear()
        characters = 0

    def append(*row: Any) -> None:
        nonlocal characters
        for values, value in zip(columns, row, strict=True):
            values.append(value)
            characters += len(value) if isinstance(value, str) else 0
        if len(columns[0]) >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
            flush()

    with replacing(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        yield append
        flush()


def open_table(path: Path) -> pa.Table:
    """Returns a table whose bytes stay on disk until they are read."""
    with damage_named(path), pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
        return reader.read_all()


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns the errors of opening a damaged table into one that says what to do."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: the cached table is damaged ({error}): delete it, and it is made again") from error
