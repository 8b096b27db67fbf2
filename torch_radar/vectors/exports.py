"""Stored vectors in other programs' layouts, for approximate search.

Everything is streamed, written beside its destination and renamed at the end: what has the final name is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch_radar.vectors.manifest import StoreError
from torch_radar.vectors.shards import ShardReader


def to_flex(reader: ShardReader, docnos: Iterable[str], path: Path) -> Path:
    """Write the folder that ``pyterrier_dr.FlexIndex`` reads: float32 vectors, docnos, metadata.

    Raises:
        StoreError: the store is empty, or ``path`` exists.
        ImportError: npids, which comes with pyterrier_dr, is missing.
    """
    try:
        from npids import Lookup
    except ImportError as error:
        raise ImportError("A FlexIndex needs npids, which comes with it: pip install pyterrier-dr") from error

    with _written_aside(reader, path) as aside:
        with open(aside / "vecs.f4", "wb") as file:
            for _, block in reader.blocks():
                block.tofile(file)
        with Lookup.builder(aside / "docnos.npids") as lookup:
            for docno in docnos:
                lookup.add(docno)
        metadata = {
            "type": "dense_index",
            "format": "flex",
            "vec_size": reader.dimension,
            "doc_count": len(reader),
        }
        (aside / "pt_meta.json").write_text(json.dumps(metadata), encoding="utf-8")
    return path


def to_faiss(reader: ShardReader, docnos: Iterable[str], path: Path) -> Path:
    """Write the folder that Pyserini's FaissSearcher reads: ``index`` (an IndexFlatIP) and ``docid``.

    FAISS builds the index in memory: 4 bytes a value.

    Raises:
        StoreError: the store is empty, or ``path`` exists.
        ImportError: faiss is missing.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("A FAISS export needs faiss: pip install pyterrier-radar[faiss]") from error

    with _written_aside(reader, path) as aside:
        index = faiss.IndexFlatIP(reader.dimension)
        for _, block in reader.blocks():
            index.add(block)
        faiss.write_index(index, str(aside / "index"))
        with open(aside / "docid", "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{docno}\n" for docno in docnos)
    return path


@contextmanager
def _written_aside(reader: ShardReader, path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that gets its name when the block ends well, and goes when it does not."""
    if not len(reader):
        raise StoreError(f"{reader.folder} holds no vectors to export: index a collection first.")
    if path.exists():
        raise StoreError(f"{path} exists: choose a new folder for the export, or remove it.")
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed export left
    aside.mkdir(parents=True)
    try:
        yield aside
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
