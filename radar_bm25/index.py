"""BM25 by PISA, made safe: an index is whole or absent, and any docno and any text is accepted.

Left to itself PISA ends the process on an error, takes a truncated index for a good one when the disk fills,
takes the documents before an exception for the whole collection, and cuts a docno at its first space. So it
builds in a worker process, under a watch over the disk, and the index gets its name after a clean end.
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import pandas as pd
import pyterrier as pt
from pyterrier_pisa import PisaIndex, tokenize

from radar_bm25.aside import built_aside

K1, B, STEMMER = 0.9, 0.4, "porter2"
"""BRIGHT's parameters (its analysis is Lucene's, with another stemmer: porter2 is the nearest PISA has)."""

LEAST_FREE = 64 * 2**20
"""Bytes that stay free on the disk while an index is built: PISA doesn't notice a write that failed."""

_KEPT = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_POLL_SECONDS = 0.01


class NoTermError(ValueError):
    """None of the documents has a term that PISA could index."""


def build_bm25(path: str | Path, documents: Iterable[Mapping[str, Any]]) -> PisaIndex:
    """Indexes documents, or returns the index that is already there.

    Args:
        path: the folder of the index; it appears under this name only when it is whole.
        documents: mappings with ``docno`` and ``text``.

    Raises:
        NoTermError: if no document has a term.
        OSError: if the disk is full or PISA fails.
        Exception: whatever ``documents`` raises.
    """
    path = Path(path)
    if not path.exists():
        with built_aside(path) as folder:
            _build(folder, _with_terms(documents))
    return PisaIndex(str(path), text_field="text", stemmer=STEMMER)


def bm25(index: PisaIndex, *, num_results: int = 1000) -> pt.Transformer:
    """Returns the BM25 retriever of an index made by :func:`build_bm25`, with BRIGHT's parameters."""
    return index.bm25(k1=K1, b=B, num_results=num_results) >> pt.apply.generic(_with_plain_docnos)


def _with_plain_docnos(results: pd.DataFrame) -> pd.DataFrame:
    return results.assign(docno=[unquote(docno) for docno in results["docno"]])


def _with_terms(documents: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Passes documents on, once it is sure that one of them has a term: without any, PISA aborts."""
    rest = iter(documents)
    head = []
    for document in rest:
        head.append(document)
        if tokenize(document["text"]):
            return chain(head, rest)
    raise NoTermError(f"none of the {len(head)} documents has a term for BM25 (a Latin letter or a digit)")


def _build(folder: Path, documents: Iterator[Mapping[str, Any]]) -> None:
    """Runs the worker over the documents and makes sure that it indexed all of them."""
    script = Path(__file__).with_name("worker.py")
    # -P: this package's folder, where the script lies, is no place to import from
    command = [sys.executable, "-P", "-X", "utf8", str(script), str(folder), STEMMER, str(K1), str(B)]
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        assert worker.stdin is not None
        count = 0
        try:
            with _stopped_when_disk_is_low(worker, folder.parent) as disk, contextlib.suppress(BrokenPipeError):
                for document in documents:
                    record = {"docno": quote(document["docno"], safe=_KEPT), "text": document["text"]}
                    worker.stdin.write(json.dumps(record).encode("ascii") + b"\n")
                    count += 1
                worker.stdin.close()
                worker.wait()
        finally:
            worker.kill()
            worker.wait()
        if disk.is_set():
            needed = f"less than {LEAST_FREE >> 20} MiB free while BM25's index was built"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed}", str(folder.parent))
        outcome = _last_line(log)
        if outcome != f"indexed {count}":
            raise OSError(f"PISA failed to index {count} documents in {folder.parent}: {outcome}")


@contextlib.contextmanager
def _stopped_when_disk_is_low(worker: subprocess.Popen, folder: Path) -> Iterator[threading.Event]:
    """Kills the worker as soon as the disk has less than :data:`LEAST_FREE` left; the event says so."""
    is_low, finished = threading.Event(), threading.Event()

    def watch() -> None:
        while not finished.wait(_POLL_SECONDS):
            if shutil.disk_usage(folder).free < LEAST_FREE:
                is_low.set()
                worker.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield is_low
    finally:
        finished.set()
        watcher.join()


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    text = log.read().decode("utf-8", "replace").strip()
    return text.rpartition("\n")[2].strip() or "it said nothing"
