"""Vectors on disk: a resumable store with exact search over it. Docnos and rows in, rankings out; no models.

``store`` is the store itself; ``manifest`` and ``shards`` are its files; ``search`` (with ``documents`` and ``merge``)
ranks them exactly; ``exports`` writes them in other programs' layouts.
"""

from torch_radar.vectors.manifest import DuplicateDocnoError, StoreError
from torch_radar.vectors.search import Hits
from torch_radar.vectors.store import StoreMismatchError, VectorStore

__all__ = ["DuplicateDocnoError", "Hits", "StoreError", "StoreMismatchError", "VectorStore"]
