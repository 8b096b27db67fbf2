"""Files that appear whole or not at all, under names that data cannot choose freely."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

from torch_radar.files import replacing

_LONGEST_NAME = 80


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
