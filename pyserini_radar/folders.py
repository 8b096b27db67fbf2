"""Vectors between a store of ours and a FAISS folder of Pyserini's: an ``index`` of vectors, a ``docid`` a line."""

from pathlib import Path
from typing import Any, Literal

from radar_bm25.aside import built_aside
from torch_radar.vectors import StoreError, VectorStore

ROWS = 4096
FROM_FAISS: dict[str, Any] = {"vectors": "from a FAISS folder"}
"""Settings of a store of such vectors: whoever opens it must name the model."""


def export_faiss(store: str | Path, folder: str | Path) -> Path:
    """Writes the vectors of a RadarIndex, or any store, as an IndexFlatIP for Pyserini's FaissSearcher.

    Args:
        store: folder of the index.
        folder: a new folder; it appears when it is whole.

    Raises:
        FileNotFoundError: There is no store.
        StoreError: The store is empty or its indexing was interrupted, or ``folder`` exists.
        ImportError: FAISS is missing.
    """
    vectors = VectorStore.open(store)
    if not vectors.is_complete:
        raise StoreError(f"{store} is incomplete, interrupted after {len(vectors)} documents: finish indexing first")
    return vectors.to_faiss(folder)


def import_faiss(
    folder: str | Path, store: str | Path, *, dtype: Literal["float16", "float32"] = "float32"
) -> VectorStore:
    """Makes a store of a FAISS folder; ``RadarIndex(store, model)`` then searches it.

    Args:
        folder: made by ``python -m pyserini.encode … --to-faiss``, ours or Pyserini's.
        store: a new folder; it appears when it is whole.
        dtype: of the vectors stored: float32 keeps them as they are, float16 takes half the room.

    Raises:
        FileNotFoundError: ``index`` or ``docid`` is missing.
        StoreError: The index is not of the flat inner-product kind, or docids and vectors differ in number, a docid
            or vector can't be stored, or ``store`` exists.
        ImportError: FAISS is missing.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("A FAISS folder needs faiss: pip install 'pyterrier-radar[faiss]'") from error

    index_file, docid_file = Path(folder) / "index", Path(folder) / "docid"
    for file in (index_file, docid_file):
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is no FAISS folder of Pyserini's: it has no file {file.name!r}")
    if Path(store).exists():
        raise StoreError(f"{store} exists: choose a new folder, or remove it")
    index = faiss.read_index(str(index_file))
    if not isinstance(index, faiss.IndexFlat) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise StoreError(
            f"{index_file} is an {type(index).__name__}: only an IndexFlatIP holds its vectors as they were"
        )
    docnos = docid_file.read_text(encoding="utf-8").rstrip("\n").split("\n") if index.ntotal else []
    if len(docnos) != index.ntotal:
        raise StoreError(f"{folder} has {len(docnos)} docids and {index.ntotal} vectors: was its writing interrupted?")
    with built_aside(Path(store)) as aside:
        vectors = VectorStore.create(aside, dimension=index.d, settings=FROM_FAISS, dtype=dtype)
        for start in range(0, index.ntotal, ROWS):
            names = docnos[start : start + ROWS]
            vectors.append(names, index.reconstruct_n(start, len(names)))
        vectors.complete()
    return VectorStore.open(store)
