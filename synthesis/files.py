"""Files that appear whole or not at all, under names that data cannot choose freely."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

_LONGEST_NAME = 80


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name to write to; the file takes the place of ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())  # else a crash of the machine can leave the name without the bytes
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all. Half a surrogate pair, which no file can hold, becomes ``?``."""
    with replacing(path) as aside:
        aside.write_bytes(text.encode("utf-8", "replace"))


def safe_name(identifier: str) -> str:
    """Returns a file name for an id: no separators, no leading dot, different for different ids on any file system."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", identifier.lower()).strip("-")[:_LONGEST_NAME]
    if plain and plain == identifier:
        return plain
    digest = blake2b(identifier.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    return f"{plain or 'id'}.{digest}"
