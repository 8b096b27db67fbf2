"""Theorems ranked by BM25."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthesis.retriever.corpus import Corpus, CorpusError, corpus_digest
from synthesis.retriever.port import BatchedTheorems, Hit


class BM25Theorems(BatchedTheorems):
    """Theorems by BM25, see :mod:`radar_bm25`.

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
        from radar_bm25.index import STEMMER, NoTermError, build_bm25

        super().__init__(corpus, batch=batch)
        path = Path(folder) / f"bm25-{STEMMER}-{corpus_digest(self.texts)}"
        try:
            self._index = build_bm25(path, ({"docno": docno, "text": text} for docno, text in self.texts.items()))
        except NoTermError as error:
            raise CorpusError("no theorem has a term for BM25 (a Latin letter or a digit)") from error
        self._retrievers: dict[int, Any] = {}

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See :class:`BatchedTheorems`; a query without a term that is indexed finds nothing."""
        import pandas as pd

        from radar_bm25.index import bm25

        if k not in self._retrievers:
            self._retrievers[k] = bm25(self._index, num_results=k)
        topics = pd.DataFrame({"qid": [str(number) for number in range(len(queries))], "query": list(queries)})
        results = self._retrievers[k].transform(topics)
        rankings: list[list[Hit]] = [[] for _ in queries]
        for qid, docno, score in zip(results["qid"], results["docno"], results["score"], strict=True):
            rankings[int(qid)].append(Hit(docno, float(score)))
        # equal scores in the order of the corpus
        return [sorted(ranking, key=lambda hit: -hit.score) for ranking in rankings]
