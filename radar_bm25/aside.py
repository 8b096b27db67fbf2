"""Folders that are whole or absent: built under another name, and renamed at the end."""

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LEFT_SECONDS = 86_400


@contextlib.contextmanager
def built_aside(path: Path) -> Iterator[Path]:
    """Yields a path to build a folder at; the folder gets its own name when the block ends well.

    What the block left is removed when it does not. If another process made the same folder meanwhile, that one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    # a folder of this run alone: what a killed run left, and a worker of it that still writes, are elsewhere
    workplace = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-", dir=path.parent))
    try:
        yield workplace / "index"
        _install(workplace / "index", path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Removes what killed builds of an index left: folders of builds in which nothing was written for a day."""
    for folder in path.parent.glob(f"{glob.escape(path.name)}.partial-*"):
        with contextlib.suppress(OSError):  # its build has just come to its end
            written = max(file.stat().st_mtime for file in [folder, *folder.rglob("*")])
            if time.time() - written > _LEFT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _install(partial: Path, path: Path) -> None:
    try:
        os.rename(partial, path)
    except OSError:
        if not path.exists():  # else another process was faster with the same index
            raise
