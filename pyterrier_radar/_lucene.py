"""BM25 by Anserini's Lucene, the one that BRIGHT is measured with, without Terrier and without Maven."""

from collections.abc import Hashable, Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from radar_bm25.lucene import K1, B, LuceneSearcher, Stemmer, build_lucene


class LuceneBM25(EqualBySettings, pt.Artifact, pt.Transformer):
    """Retrieves from a Lucene index by BM25; ``pip install 'pyterrier-radar[pyserini]'`` brings Lucene and its Java.

    ::

        bm25 = LuceneBM25.index("pony.lucene", dataset.get_corpus_iter())  # once
        bm25 = LuceneBM25("pony.lucene")  # ever after; or pt.Artifact.load("pony.lucene")
        hybrid = Interpolate(index.retriever(), bm25 % 1000, alpha=0.8)

    Lucene runs in a process of its own, so it needs nothing of the JVM that PyTerrier starts for Terrier, whatever
    its Java. The folder can be read by Pyserini too. An index gets its name when it is whole: a killed run leaves
    nothing under it.

    The defaults are BRIGHT's: Lucene's English analysis (Porter's stemmer, 33 stopwords) with ``k1=0.9``, ``b=0.4``.
    BRIGHT's own code weights the *query* by BM25 as well, as if it were a document of the collection; so does
    ``query_side=True`` (Anserini's query-side BM25). It differs from that code by Lucene's rounding of lengths above
    39 terms, and by counting the query's unknown terms in its length.

    Any text is a query, since there is no query language: a text without a known term finds nothing. As in Pyserini,
    scores have four decimals, and equal ones are set a millionth apart so that evaluation keeps their order.
    """

    ARTIFACT_TYPE = "sparse_index"
    ARTIFACT_FORMAT = "radar_lucene"
    ARTIFACT_PACKAGE_HINT = "pyterrier-radar"

    schematic = {"label": "LuceneBM25"}

    def __init__(
        self,
        path: str | Path,
        k1: float = K1,
        b: float = B,
        num_results: int = 1000,
        *,
        query_side: bool = False,
        verbose: bool = False,
    ):
        """Opens an index.

        Args:
            path: folder of the index.
            k1: saturation of a term's count, 0 or more.
            b: how much a document's length counts, 0 to 1.
            num_results: documents a query gets at most.
            query_side: whether a query's terms are weighted by BM25, as BRIGHT does, instead of counted.
            verbose: whether to show progress.

        Raises:
            FileNotFoundError: There is no finished index.
            ValueError: A parameter is out of its range.
        """
        super().__init__(path)
        if not (k1 >= 0 and 0 <= b <= 1):
            raise ValueError(f"k1 must be 0 or more and b from 0 to 1, not {k1} and {b}")
        if num_results < 1:
            raise ValueError(f"num_results must be 1 or more, not {num_results}")
        self.k1 = k1
        self.b = b
        self.num_results = num_results
        self.query_side = query_side
        self.verbose = verbose
        self._searcher = LuceneSearcher(self.path, k1=k1, b=b, query_side=query_side)

    @classmethod
    def index(
        cls,
        path: str | Path,
        documents: Iterable[Mapping[str, Any]] | pd.DataFrame,
        *,
        stemmer: Stemmer = "porter",
        keep_stopwords: bool = False,
        threads: int = 1,
    ) -> "LuceneBM25":
        """Indexes a collection and opens the index.

        Args:
            path: a new folder.
            documents: documents with ``docno`` and ``text``; one without text is left out.
            stemmer: ``"porter"``, ``"krovetz"`` or ``"none"``; queries are stemmed alike.
            keep_stopwords: whether to index Lucene's English stopwords too.
            threads: threads that Lucene analyses with.

        Raises:
            ValueError: A document has no docno or text, or a docno twice (the message names it), or none has text.
            FileExistsError: There is something at the path.
            ImportError: The extra is missing.
            OSError: Lucene failed, as on a full disk.
        """
        records = documents.to_dict("records") if isinstance(documents, pd.DataFrame) else documents
        metadata = {"type": cls.ARTIFACT_TYPE, "format": cls.ARTIFACT_FORMAT, "package_hint": cls.ARTIFACT_PACKAGE_HINT}
        build_lucene(path, records, stemmer=stemmer, keep_stopwords=keep_stopwords, threads=threads, metadata=metadata)
        return cls(path)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Retrieves for each query of a frame.

        Returns:
            The columns of the input with ``docno``, ``score`` and ``rank``; sorted by query in the order of the
            input, and by rank; equal scores by docno.

        Raises:
            ValueError: A query is missing; the message names its qid.
            ImportError: The extra is missing.
        """
        pt.validate.query_frame(inp, extra_columns=["query"])
        once, places = _frames.distinct(_frames.texts(inp, "query", "qid"))
        progress = pt.tqdm(once, desc="Lucene BM25", unit="q", disable=not self.verbose)
        found = [self._searcher.search(query, self.num_results) for query in progress]
        rows = [(row, docno, score) for row, place in enumerate(places) for docno, score in found[place]]
        hits = pd.DataFrame(rows, columns=["row", "docno", "score"]).astype(
            {"row": "int64", "docno": "str", "score": "float64"}
        )
        queries = inp.iloc[hits.pop("row")].reset_index(drop=True)
        return pt.model.add_ranks(queries.assign(docno=hits["docno"], score=hits["score"]))

    def fuse_rank_cutoff(self, k: int) -> "LuceneBM25 | None":
        """The same search for k documents, if that is fewer; it shares this one's process."""
        if not 1 <= k < self.num_results:
            return None
        fewer = copy(self)
        fewer.num_results = k
        return fewer

    def __repr__(self) -> str:
        return f"LuceneBM25({str(self.path)!r}, k1={self.k1}, b={self.b}, query_side={self.query_side})"

    def _settings_key(self) -> Hashable:
        return (self.path.resolve(), self.k1, self.b, self.num_results, self.query_side)
