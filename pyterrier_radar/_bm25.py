"""BM25 by PISA, made safe: an index is whole or absent, and any docno and any text is accepted.

PISA reads documents as lines ``docno text`` in a thread that swallows exceptions, takes what came before one
for the whole collection, cuts a docno at its first space, and ends the process where no document has a term.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd
import pyterrier as pt
from pyterrier_pisa import PisaIndex, tokenize

K1, B, STEMMER = 0.9, 0.4, "porter2"
"""BRIGHT's parameters (Lucene's analysis has no porter2: the nearest PISA offers)."""

_KEPT = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def build_bm25(path: str | Path, documents: Iterable[Mapping[str, Any]]) -> PisaIndex:
    """Indexes documents, or returns the index that is already there.

    Args:
        path: the folder of the index; it appears under this name only when it is whole.
        documents: mappings with ``docno`` and ``text``.

    Raises:
        ValueError: if no document has a term that PISA could index.
        Exception: whatever ``documents`` raises.
    """
    path = Path(path)
    if path.exists():
        return PisaIndex(str(path), text_field="text", stemmer=STEMMER)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = _Stream(documents)
    try:
        with _silenced(1):
            PisaIndex(str(partial), text_field="text", stemmer=STEMMER).index(stream.lines())
        if stream.failure is not None:
            raise stream.failure
        indexed = len(PisaIndex(str(partial)))
        if indexed != stream.count:
            raise OSError(f"PISA indexed {indexed} of {stream.count} documents: is the disk full? ({path})")
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PisaIndex(str(path), text_field="text", stemmer=STEMMER)


def bm25(index: PisaIndex, *, num_results: int = 1000) -> pt.Transformer:
    """Returns the BM25 retriever of an index made by :func:`build_bm25`, with BRIGHT's parameters."""
    with _silenced(1, 2):
        retriever = index.bm25(k1=K1, b=B, num_results=num_results)
    return retriever >> pt.apply.generic(_with_plain_docnos)


def _with_plain_docnos(results: pd.DataFrame) -> pd.DataFrame:
    return results.assign(docno=[unquote(docno) for docno in results["docno"]])


class _Stream:
    """Documents on their way to PISA: counted, docnos without white space, a failure kept for later."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]):
        self.count = 0
        self.failure: Exception | None = None
        self._documents = iter(documents)

    def lines(self) -> Iterator[dict[str, str]]:
        """Yields what PISA is to index; raises at once where there is nothing to index."""
        head = []
        for document in self._documents:
            head.append(document)
            if tokenize(document["text"]):
                return self._quoted(chain(head, self._documents))
        raise ValueError(f"none of the {len(head)} documents has a term for BM25 (a Latin letter or a digit)")

    def _quoted(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
        try:
            for document in documents:
                yield {"docno": quote(document["docno"], safe=_KEPT), "text": document["text"]}
                self.count += 1
        except Exception as error:
            self.failure = error


@contextlib.contextmanager
def _silenced(*descriptors: int) -> Iterator[None]:
    """Keeps native code quiet, which logs every step of an index without a way to turn that off."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in descriptors}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in descriptors:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, original in saved.items():
            os.dup2(original, descriptor)
            os.close(original)
        os.close(nowhere)
