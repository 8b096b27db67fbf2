"""Anserini's Lucene in a process of its own: it needs another JVM than Terrier does, and a process has only one.

``python -P lucene_worker.py JAR OPTIONS build FOLDER STEMMER KEEP_STOPWORDS THREADS`` indexes JSON lines from stdin;
``… search FOLDER STEMMER KEEP_STOPWORDS K1 B QUERY_SIDE`` answers requests from stdin, one line each, until stdin
ends. Started by :mod:`radar_bm25.lucene`; what Java says goes to stderr.
"""

import json
import os
import sys
from collections.abc import Iterable
from itertools import islice
from typing import IO, Any

BATCH = 1000
MOST_TERMS = 2**31 - 1
"""Of a query: Lucene refuses more than 1,024 different ones otherwise."""


def build(java: Any, lines: Iterable[bytes], folder: str, stemmer: str, keep_stopwords: str, threads: str) -> int:
    """Indexes documents given as JSON lines with ``id`` and ``contents``, and returns how many there are now."""
    options = ["-collection", "JsonCollection", "-input", "", "-index", folder, "-threads", threads]
    options += ["-stemmer", stemmer, *(["-keepStopwords"] if json.loads(keep_stopwords) else [])]
    indexer = java("io.anserini.index.SimpleIndexer")(options)
    count = 0
    rest = (line.decode("ascii") for line in lines)
    while batch := list(islice(rest, BATCH)):
        count += indexer.addRawDocuments(batch)
    indexer.close()
    return count


class Searcher:
    """BM25 over a Lucene index."""

    def __init__(
        self, java: Any, folder: str, stemmer: str, keep_stopwords: str, k1: str, b: str, query_side: str
    ) -> None:
        java("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MOST_TERMS)
        analyzers = java("io.anserini.analysis.DefaultEnglishAnalyzer")
        self._searcher = java("io.anserini.search.SimpleSearcher")(folder)
        self._searcher.set_analyzer(analyzers.fromArguments(stemmer, json.loads(keep_stopwords), None))
        self._searcher.set_bm25(float(k1), float(b))
        if json.loads(query_side):
            reader = java("io.anserini.index.IndexReaderUtils").getReader(folder)
            generators = java("io.anserini.search.query.QuerySideBm25QueryGenerator")
            self._generator = generators(float(k1), float(b), reader)
        else:
            self._generator = java("io.anserini.search.query.BagOfWordsQueryGenerator")()

    def search(self, query: str, k: int) -> dict[str, list]:
        """The docnos and scores of the ``k`` best documents that share a term with the query."""
        hits = self._searcher.search(self._generator, query, k)
        return {"docnos": [hit.docid for hit in hits], "scores": [hit.score for hit in hits]}


def main(answers: IO[str], jar: str, options: str, task: str, *arguments: str) -> None:
    """Starts the JVM and does the task."""
    import jnius_config

    jnius_config.set_classpath(jar)
    jnius_config.set_options(*json.loads(options))
    from jnius import autoclass

    if task == "build":
        print(json.dumps({"indexed": build(autoclass, sys.stdin.buffer, *arguments)}), file=answers, flush=True)
        return
    searcher = Searcher(autoclass, *arguments)
    for line in sys.stdin.buffer:
        print(json.dumps(searcher.search(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # Java writes to file 1 whatever Python's stdout is: answers get a file of their own.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        main(answers, *sys.argv[1:])
