"""Theorems ranked by any PyTerrier retriever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthesis.retriever.corpus import Corpus, CorpusError
from synthesis.retriever.port import BatchedTheorems, Hit

if TYPE_CHECKING:
    import pyterrier as pt


class TransformerTheorems(BatchedTheorems):
    """Theorems by a pipeline that takes ``qid`` and ``query`` and gives ``qid``, ``docno`` and ``score``.

    Queries are passed on as they are. Terrier's own parser wants ``pt.rewrite.tokenise()`` before its retrievers.

    Args:
        corpus: The theorems: all that the retriever may find.
        retriever: The pipeline; it should give as many theorems as are asked for.
        batch: Most queries of a frame.
    """

    def __init__(self, corpus: Corpus, retriever: pt.Transformer, *, batch: int = 64):
        super().__init__(corpus, batch=batch)
        self._retriever = retriever

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See :class:`BatchedTheorems`.

        Raises:
            CorpusError: For a docno that isn't in the corpus.
        """
        import pandas as pd

        topics = pd.DataFrame({"qid": [str(number) for number in range(len(queries))], "query": list(queries)})
        results = self._retriever.transform(topics).sort_values("score", ascending=False, kind="stable")
        rankings: list[list[Hit]] = [[] for _ in queries]
        for qid, docno, score in zip(results["qid"], results["docno"], results["score"], strict=True):
            if docno not in self.texts:
                raise CorpusError(f"the retriever found {docno!r}, which the corpus lacks: give the corpus it indexed")
            rankings[int(qid)].append(Hit(docno, float(score)))
        return [ranking[:k] for ranking in rankings]
