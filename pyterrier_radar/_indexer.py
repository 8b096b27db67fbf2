"""Documents into a vector store: window by window, each one checked, encoded and committed as one shard.

A shard is exactly one window, counted from where the run began. A run that is stopped and started again with the
same collection therefore cuts the rest into the same windows, and ends with the same bytes as one that never
stopped.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames, _recipe
from torch_radar.encoder import Encoder
from torch_radar.vectors import VectorStore

if TYPE_CHECKING:
    from pyterrier_radar._index import RadarIndex

IndexingMode = Literal["create", "append", "overwrite"]
EmptyText = Literal["error", "encode", "skip"]

WINDOW = 4096
"""Documents in a shard: enough for batches of even length, little to lose when killed."""

logger = logging.getLogger(__name__)


class RadarIndexer(pt.Indexer):
    """Writes a :class:`RadarIndex`; made by :meth:`RadarIndex.indexer`."""

    schematic = {"label": "RadarIndexer"}

    def __init__(self, index: "RadarIndex", mode: IndexingMode = "create"):
        """Takes an index and what to do where it exists; see :meth:`RadarIndex.indexer`."""
        if mode not in ("create", "append", "overwrite"):
            raise ValueError(f"mode is 'create', 'append' or 'overwrite', not {mode!r}")
        self._index = index
        self.mode = mode

    def index_inputs(self) -> list[list[str]]:
        """The fields that documents must have: one of these lists."""
        return self._index.index_inputs()

    def index(self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame) -> "RadarIndex":
        """Indexes the documents; see :meth:`RadarIndex.index`."""
        store, base = self._existing()
        records = docs.to_dict("records") if isinstance(docs, pd.DataFrame) else docs
        documents = self._documents(records)
        done = _skip_stored(store, base, documents) if store is not None else 0
        total = len(records) if isinstance(records, Sized) else None
        with pt.tqdm(
            total=total, initial=done, desc="indexing", unit="doc", disable=not self._index.verbose
        ) as progress:
            while window := list(islice(documents, WINDOW)):
                docnos, contents = [docno for docno, _ in window], [content for _, content in window]
                store = store if store is not None else self._new_store(docnos, contents)
                _refuse_duplicates(store, docnos)
                store.append(docnos, self._vectors(store, docnos, contents))
                progress.update(len(window))
        if store is None:
            raise ValueError("there is no document to index")
        store.complete()
        self._write_metadata(store.dimension, len(store))
        return self._index

    def __repr__(self) -> str:
        return f"{self._index!r}.indexer(mode={self.mode!r})"

    def _existing(self) -> tuple[VectorStore | None, int]:
        """The store to go on with, if there is one, and the row at which its last run began."""
        path = self._index.path
        self._index.require_own_folder()
        if self.mode == "overwrite" or not VectorStore.exists(path):
            return None, 0
        store = VectorStore.open(path)
        base = len(store) if store.is_complete else _count_before_this_run(path)
        if self.mode == "create" and store.is_complete:
            raise ValueError(
                f"{path} holds a complete index of {base} documents: use indexer(mode='append') to add documents, "
                "indexer(mode='overwrite') to replace it, or another path; built() tells beforehand"
            )
        if self.mode == "create" and base > 0:
            raise ValueError(
                f"an append to the {base} documents of {path} was interrupted: run indexer(mode='append') with the "
                "appended documents again"
            )
        if self.mode == "append" and base == 0:
            raise ValueError(f"{path} is incomplete: finish it with index() and its own collection before appending")
        if self._index.encoder is not None:
            _recipe.require_same_model(store, self._index.encoder, text_field=self._index.text_field)
        self._write_metadata(store.dimension, base)
        return store, base

    def _documents(self, records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
        """(docno, text) or (docno, vector) of each document, checked."""
        skipped = 0
        given = None
        for position, record in enumerate(records):
            docno = record.get("docno")
            if not isinstance(docno, str) or not docno:
                raise ValueError(
                    f"document {position}, counted from 0, has the docno {docno!r}: give each document a docno string"
                )
            if given is not None and given != ("doc_vec" in record):
                raise ValueError(f"of document {docno!r} and those before it, some have a doc_vec and some have not")
            given = "doc_vec" in record
            content = record["doc_vec"] if given else self._text(docno, record)
            if isinstance(content, str) and not content.strip() and self._index.empty_text == "skip":
                skipped += 1
                continue
            yield docno, content
        if skipped:
            logger.warning("%d documents without text were left out of %s", skipped, self._index.path)

    def _text(self, docno: str, record: Mapping[str, Any]) -> str:
        field = self._index.text_field
        if field not in record:
            raise ValueError(
                f"document {docno!r} has no field {field!r}, only {sorted(record)}: name the field with text_field=…"
            )
        text = record[field]
        if not isinstance(text, str):
            raise ValueError(
                f"document {docno!r} has {text!r} in {field!r} where text is needed: fill it in or drop the document"
            )
        if not text.strip() and self._index.empty_text == "error":
            raise ValueError(
                f"document {docno!r} has an empty {field!r}: drop it, or choose empty_text='skip' or 'encode'"
            )
        return text

    def _new_store(self, docnos: list[str], contents: list[Any]) -> VectorStore:
        index = self._index
        encoder = index.given_encoder
        if isinstance(contents[0], str):
            encoder = index.encoder or Encoder()
            dimension = encoder.dimension
        else:
            dimension = _stacked(docnos, contents, None).shape[1]
        if VectorStore.exists(index.path):
            _remove(index.path)
        settings = _recipe.recipe(encoder, index.text_field) if encoder else _recipe.GIVEN_VECTORS
        store = VectorStore.create(index.path, dimension=dimension, settings=settings, dtype=index.dtype)
        self._write_metadata(dimension, 0)
        index.remember(encoder)
        return store

    def _vectors(self, store: VectorStore, docnos: list[str], contents: list[Any]) -> np.ndarray:
        """The vectors of a window, float (n, d): as given, or of the texts, each distinct one encoded once."""
        if not isinstance(contents[0], str):
            return _stacked(docnos, contents, store.dimension)
        encoder = self._index.encoder
        if encoder is None:
            raise ValueError(f"{store.path} holds vectors of an unknown model: give documents with a doc_vec")
        once, rows = _frames.distinct(contents)
        return encoder.encode_documents(once)[rows]

    def _write_metadata(self, dimension: int, count: int) -> None:
        """Writes what ``pt.Artifact.load`` reads, and how many documents complete runs have put here."""
        index = self._index
        metadata = {
            "type": index.ARTIFACT_TYPE,
            "format": index.ARTIFACT_FORMAT,
            "package_hint": index.ARTIFACT_PACKAGE_HINT,
            "vec_size": dimension,
            "doc_count": count,
        }
        aside = index.path / "pt_meta.json.tmp"
        aside.write_text(json.dumps(metadata), encoding="utf-8")
        os.replace(aside, index.path / "pt_meta.json")


def _count_before_this_run(path: Path) -> int:
    metadata = path / "pt_meta.json"
    return int(json.loads(metadata.read_text(encoding="utf-8"))["doc_count"]) if metadata.exists() else 0


def _skip_stored(store: VectorStore, base: int, documents: Iterator[tuple[str, Any]]) -> int:
    """Reads past the documents that the interrupted run has stored, checks that they are the same, counts them."""
    done = 0
    for done, stored in enumerate(store.iter_docnos(base), start=1):
        docno, _ = next(documents, (None, None))
        if docno != stored:
            found = f"{docno!r}" if docno is not None else "missing: the collection is at its end"
            raise ValueError(
                f"document {done - 1} of the collection, counted from 0, is {found}, but the interrupted run stored "
                f"{stored!r} there: give the same collection in the same order, or start again with "
                "indexer(mode='overwrite')"
            )
    return done


def _refuse_duplicates(store: VectorStore, docnos: list[str]) -> None:
    seen = {docno for docno, row in zip(docnos, store.rows(docnos), strict=True) if row >= 0}
    for docno in docnos:
        if docno in seen:
            raise ValueError(
                f"docno {docno!r} occurs twice: leave one of the two documents out and run again; the {len(store)} "
                "documents stored so far are kept"
            )
        seen.add(docno)


def _stacked(docnos: list[str], vectors: list[Any], dimension: int | None) -> np.ndarray:
    frame = pd.DataFrame({"docno": docnos, "doc_vec": vectors})
    return np.stack(_frames.vectors(frame, "doc_vec", "docno", dimension))


def _remove(path: Path) -> None:
    """Deletes an index so that no half of one is left under its name."""
    aside = path.with_name(f".{path.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed run left
    os.replace(path, aside)
    shutil.rmtree(aside)
