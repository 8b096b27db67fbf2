"""The vector store: docnos and vectors on disk, appended shard by shard, searched exactly.

A store is a folder::

    manifest.sqlite        settings, docnos, and every shard's length and checksum
    shards/00000000.bin    raw little-endian rows of float16 or float32
    shards/00000001.bin

An append writes its rows aside, syncs and renames them, and then commits them with their docnos in one
transaction. A run killed at any moment leaves whole shards only; ``len(store)`` is where to go on. A shard file
that was renamed but not committed is overwritten by the next append. The store knows nothing of models: what made
the vectors is in ``settings``, compared by :meth:`VectorStore.require_settings`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_radar.vectors import exports
from torch_radar.vectors.documents import RowLists
from torch_radar.vectors.manifest import DuplicateDocnoError, Manifest, StoreError
from torch_radar.vectors.search import Hits, exact_search
from torch_radar.vectors.shards import DTYPES, ShardReader, write_shard

# What breaks the line-based files that docnos are written to, and what UTF-8 cannot hold.
_NOT_IN_DOCNOS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class StoreMismatchError(StoreError):
    """The store was made with other settings than those asked for."""


class VectorStore:
    """A resumable folder of vectors with exact search over it; see the module docstring.

    Searching from several threads is safe, and so is reading while one process appends.

    Attributes:
        path: the folder.
        dimension: values in a vector.
        dtype: "float16" or "float32", as stored.
        settings: what made the vectors, as given to :meth:`create`.
    """

    def __init__(self, path: str | Path):
        """Open the store in ``path``, for reading and, where the folder allows it, for appending.

        Raises:
            FileNotFoundError: there is no store in ``path``.
            StoreError: it is damaged, another program's, or of another schema version.
        """
        self.path = Path(path)
        if not self.exists(path):
            raise FileNotFoundError(
                f"{self.path} holds no vector store (no manifest.sqlite): check the path, or index a collection there."
            )
        self._manifest = Manifest(self.path / "manifest.sqlite")
        self.dimension, self.dtype, self.settings = self._manifest.read_store()
        self._reader().check_sizes()

    @classmethod
    def create(
        cls, path: str | Path, *, dimension: int, settings: Mapping[str, Any], dtype: str = "float16"
    ) -> VectorStore:
        """Make an empty store.

        Args:
            path: a folder, made where it is missing.
            dimension: values in a vector, at least 1.
            settings: what makes the vectors; must survive JSON.
            dtype: "float16" (finer than bfloat16 for unit vectors) or "float32".

        Raises:
            StoreError: ``path`` already holds a store, or shards without a manifest.
        """
        folder = Path(path)
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")
        if isinstance(dimension, bool) or not isinstance(dimension, int | np.integer) or dimension < 1:
            raise ValueError(f"dimension must be a whole number of at least 1, not {dimension!r}.")
        _as_json(settings)
        if cls.exists(folder):
            raise StoreError(f"{folder} already holds a vector store: open it, or choose another folder.")
        if folder.exists() and not folder.is_dir():
            raise StoreError(f"{folder} is a file: choose a folder for the store.")
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        if any((folder / "shards").iterdir()):
            raise StoreError(f"{folder / 'shards'} holds files but no manifest: choose another folder.")
        Manifest.create(folder / "manifest.sqlite", dimension=int(dimension), dtype=dtype, settings=settings)
        return cls(folder)

    @classmethod
    def open(cls, path: str | Path) -> VectorStore:
        """Open an existing store; see :meth:`__init__` for what it raises."""
        return cls(path)

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether ``path`` holds a store."""
        return (Path(path) / "manifest.sqlite").is_file()

    def __repr__(self) -> str:
        return f"VectorStore({str(self.path)!r})"

    def __len__(self) -> int:
        return len(self._manifest)

    @property
    def is_complete(self) -> bool:
        """Whether an indexing run reached its end, with nothing appended since."""
        return self._manifest.is_complete

    def complete(self) -> None:
        """Mark the end of an indexing run. A complete store can still be appended to."""
        self._manifest.complete()

    def append(self, docnos: Sequence[str], vectors: np.ndarray) -> None:
        """Add one shard: all of it, durably, or nothing.

        Args:
            docnos: n docnos, new to the store.
            vectors: (n, d) of any float dtype; rounded to the store's.

        Raises:
            DuplicateDocnoError: a docno occurs twice, here or in the store.
            StoreError: a docno or vector that cannot be stored; the message names it.
            OSError: the disk is full or the folder read-only. Committed shards stay readable.
        """
        docnos = _checked_docnos(docnos)
        stored = self._checked_vectors(docnos, vectors)
        if docnos:
            self._manifest.append(docnos, lambda number, first_row: write_shard(self.path, number, first_row, stored))

    def require_settings(self, settings: Mapping[str, Any]) -> None:
        """Check that the store was made with exactly these settings.

        Raises:
            StoreMismatchError: names every setting that differs, with both values.
        """
        asked = _as_json(settings)
        absent = object()
        differences = [
            f"{key}: store {_shown(self.settings, key)}, asked {_shown(asked, key)}"
            for key in sorted(self.settings.keys() | asked.keys())
            if self.settings.get(key, absent) != asked.get(key, absent)
        ]
        if differences:
            raise StoreMismatchError(
                f"{self.path} was made with other settings ({'; '.join(differences)}): use the settings of the "
                "store, or another folder."
            )

    def docnos(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The docno of each row, in the order given; raises StoreError for a row that is not stored."""
        return self._manifest.docnos(np.asarray(rows))

    def rows(self, docnos: Sequence[str]) -> np.ndarray:
        """The row of each docno: int64 (n,), −1 where the store lacks it."""
        return self._manifest.rows(docnos)

    def iter_docnos(self, start: int = 0) -> Iterator[str]:
        """All docnos in row order, from row ``start``."""
        return self._manifest.iter_docnos(start)

    def vectors(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` as float32 (stop − start, d)."""
        reader = self._reader()
        if not 0 <= start <= stop <= len(reader):
            raise StoreError(f"{self.path} has no rows {start} to {stop}: it holds {len(reader)}.")
        out = torch.empty(stop - start, self.dimension)
        reader.read(start, stop, out)
        return out.numpy()

    def gather(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The given rows, in any order and repeated as asked, as float32 (n, d)."""
        wanted, places = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        if not len(wanted):
            return np.empty((0, self.dimension), dtype=np.float32)
        reader = self._reader()
        if wanted[0] < 0 or wanted[-1] >= len(reader):
            wrong = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise StoreError(f"{self.path} has no row {wrong}: it holds {len(reader)} rows.")
        out = torch.empty(len(wanted), self.dimension)
        reader.gather(wanted, out)
        return out.numpy()[places]

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Sequence[Sequence[str] | None] | None = None,
        candidates: Sequence[Sequence[str] | None] | None = None,
        device: str | None = None,
    ) -> Hits:
        """The k documents with the largest dot product for each query: exact, ties by lower row.

        Args:
            queries: float32 (q, d).
            k: documents a query gets, at least 1.
            exclude: for each query, docnos it must not get (or None); k others take their place.
            candidates: for each query, the only docnos it may get, or None for all. Docnos that are not stored
                are ignored in both.
            device: where products are computed; the CPU where None.

        Returns:
            Hits with float32 scores and int64 rows, (q, k) each; row −1 and score −inf where there are fewer
            than k documents. Scores are float32 dot products with the stored vectors.

        Raises:
            ValueError: names the query that is not finite, or the argument of the wrong shape.
        """
        queries = self._checked_queries(queries)
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1, not {k!r}.")
        return exact_search(
            self._reader(),
            queries,
            int(k),
            exclude=self._row_lists("exclude", exclude, len(queries)),
            candidates=self._row_lists("candidates", candidates, len(queries)),
            device=device or "cpu",
        )

    def verify(self) -> None:
        """Read everything and compare checksums; raises a StoreError that names the damaged file."""
        self._manifest.check()
        reader = self._reader()
        reader.check_sizes()
        reader.check_contents()

    def to_flex(self, path: str | Path) -> Path:
        """Write a pyterrier_dr FlexIndex (float32) to the new folder ``path`` and return it."""
        reader = self._reader()
        return exports.to_flex(reader, islice(self.iter_docnos(), len(reader)), Path(path))

    def to_faiss(self, path: str | Path) -> Path:
        """Write a FAISS IndexFlatIP and its docnos, as Pyserini reads them, to the new folder ``path``."""
        reader = self._reader()
        return exports.to_faiss(reader, islice(self.iter_docnos(), len(reader)), Path(path))

    def _reader(self) -> ShardReader:
        return ShardReader(self.path, self.dimension, self.dtype, self._manifest.shards())

    def _checked_vectors(self, docnos: Sequence[str], vectors: np.ndarray) -> torch.Tensor:
        given = np.asarray(vectors)
        if given.ndim != 2 or given.shape[1] != self.dimension:
            raise StoreError(f"{self.path} takes vectors of shape (n, {self.dimension}), not {given.shape}.")
        if len(docnos) != len(given):
            raise StoreError(f"{len(docnos)} docnos came with {len(given)} vectors: give one docno a vector.")
        stored = torch.from_numpy(np.array(given, dtype=np.float32)).to(DTYPES[self.dtype])
        finite = stored.isfinite().all(dim=1)
        if not finite.all():
            row = int(finite.int().argmin())
            if np.isfinite(given[row]).all():
                problem = f"values too large for {self.dtype}: scale it or use dtype='float32'"
            else:
                problem = "NaN or infinite values: encode it again"
            raise StoreError(f"The vector of document {docnos[row]!r} has {problem}.")
        return stored

    def _checked_queries(self, queries: np.ndarray) -> np.ndarray:
        given = np.array(queries, dtype=np.float32, order="C")
        if given.ndim != 2 or given.shape[1] != self.dimension:
            raise ValueError(
                f"Queries must have the shape (q, {self.dimension}) of this store's vectors, not {given.shape}."
            )
        finite = np.isfinite(given).all(axis=1)
        if not finite.all():
            raise ValueError(f"Query {int(np.argmin(finite))} has NaN or infinite values: encode it again.")
        return given

    def _row_lists(self, name: str, lists: Sequence[Sequence[str] | None] | None, queries: int) -> RowLists:
        if lists is None:
            lists = [None] * queries
        if len(lists) != queries:
            raise ValueError(f"{name} has {len(lists)} entries for {queries} queries: give one a query.")
        for place, some in enumerate(lists):
            if isinstance(some, str):
                raise ValueError(f"{name}[{place}] is the text {some!r}: give a list of docnos, or None.")
        rows = self.rows([docno for some in lists if some is not None for docno in some])
        ends = np.cumsum([0 if some is None else len(some) for some in lists])
        split = np.split(rows, ends)[:-1]  # the last part, behind all lists, is empty
        return RowLists.build([None if some is None else part for some, part in zip(lists, split, strict=True)])


def _checked_docnos(docnos: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    for place, docno in enumerate(docnos):
        if not isinstance(docno, str):
            raise StoreError(f"Docno {docno!r} at position {place} is not a string.")
        if not docno:
            raise StoreError(f"The docno at position {place} is empty.")
        if _NOT_IN_DOCNOS.search(docno):
            raise StoreError(
                f"Docno {docno!r} at position {place} holds a line break, a control character or a lone surrogate."
            )
        if docno in seen:
            raise DuplicateDocnoError(
                f"docno {docno!r} occurs twice in one append, at positions {seen[docno]} and {place}: leave one out."
            )
        seen[docno] = place
    return list(seen)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from the manifest; raises StoreError where they cannot be written."""
    try:
        return json.loads(json.dumps(dict(settings)))
    except (TypeError, ValueError) as error:
        raise StoreError(f"Settings must hold plain JSON values: {error}.") from error


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "has none"
