"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


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
