"""Theorems ranked by BM25, by PISA: an index is whole or absent.

Left to itself PISA ends the process on an error, takes a truncated index for a good one when the disk fills, and cuts
a docno at its first space. So a process of its own builds the index, the disk is looked at before and after, documents
go by their numbers, and the index gets its name after a clean end.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthesis.retriever.corpus import Corpus, CorpusError, corpus_digest
from synthesis.retriever.port import BatchedTheorems, Hit

K1, B, STEMMER = 0.9, 0.4, "porter2"
"""BRIGHT's parameters (its analysis is Lucene's, with another stemmer: porter2 is the nearest PISA has)."""

LEAST_FREE = 64 * 2**20
"""Bytes of disk that must be left when the index is built."""


class BM25Theorems(BatchedTheorems):
    """Theorems by BM25.

    Args:
        corpus: The theorems.
        folder: Where the index is kept, under a name that says of which corpus it is.
        batch: Most queries that are ranked together.

    Raises:
        CorpusError: See :class:`BatchedTheorems`; also if no theorem has a term.
        OSError: If the disk is full or PISA fails.
        ImportError: If pyterrier_pisa is not installed.
    """

    def __init__(self, corpus: Corpus, folder: str | Path, *, batch: int = 64):
        from pyterrier_pisa import PisaIndex, tokenize

        super().__init__(corpus, batch=batch)
        self._docnos = list(self.texts)
        path = Path(folder) / f"bm25-{corpus_digest(self.texts)}"
        if not any(tokenize(text) for text in self.texts.values()):  # PISA would abort
            raise CorpusError("no theorem has a term for BM25 (a Latin letter or a digit)")
        if not path.exists():
            _build(path, list(self.texts.values()))
        self._index = PisaIndex(str(path), text_field="text", stemmer=STEMMER)
        self._retrievers: dict[int, Any] = {}

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See :class:`BatchedTheorems`; a query without a term that is indexed finds nothing."""
        import pandas as pd

        if k not in self._retrievers:
            self._retrievers[k] = self._index.bm25(k1=K1, b=B, num_results=k)
        topics = pd.DataFrame({"qid": [str(number) for number in range(len(queries))], "query": list(queries)})
        results = self._retrievers[k].transform(topics)
        rankings: list[list[Hit]] = [[] for _ in queries]
        for qid, number, score in zip(results["qid"], results["docno"], results["score"], strict=True):
            rankings[int(qid)].append(Hit(self._docnos[int(number)], float(score)))
        # equal scores in the order of the corpus
        return [sorted(ranking, key=lambda hit: -hit.score) for ranking in rankings]


def _build(path: Path, texts: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_free(path.parent, LEAST_FREE + 4 * sum(map(len, texts)))
    # A folder of this run alone: what a killed run left, and a worker of it that still writes, are elsewhere.
    workplace = Path(tempfile.mkdtemp(prefix=f"{path.name}.partial-", dir=path.parent))
    try:
        script = str(Path(__file__).with_name("bm25_worker.py"))
        # -P: this package's folder, where the script lies, is no place to import from
        command = [sys.executable, "-P", "-X", "utf8", script, str(workplace / "index"), STEMMER, str(K1), str(B)]
        lines = "".join(json.dumps({"docno": str(number), "text": text}) + "\n" for number, text in enumerate(texts))
        worker = subprocess.run(command, input=lines, capture_output=True, encoding="utf-8", errors="replace")
        _require_free(path.parent, LEAST_FREE // 4)
        if f"indexed {len(texts)}" not in worker.stdout.splitlines():
            said = worker.stderr.strip().rpartition("\n")[2] or "it said nothing"
            raise OSError(f"PISA failed to index {len(texts)} theorems in {path.parent}: {said}")
        _install(workplace / "index", path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _require_free(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        said = f"{os.strerror(errno.ENOSPC)}: {free >> 20} MiB are free, and an index of BM25 needs {needed >> 20} MiB"
        raise OSError(errno.ENOSPC, said, str(folder))


def _install(partial: Path, path: Path) -> None:
    try:
        os.rename(partial, path)
    except OSError:
        if not path.exists():  # else another process was faster with the same index
            raise
