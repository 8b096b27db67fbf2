"""Theorems by query: a small port, and adapters for what can rank a corpus.

``corpus`` reads and checks the theorems, ``port`` is what the rest of synthesis sees, with the micro-batching that all
adapters share; ``dense``, ``bm25`` and ``transformer`` are the adapters.
"""

from synthesis.retriever.bm25 import BM25Theorems
from synthesis.retriever.corpus import CorpusError, read_corpus
from synthesis.retriever.dense import EncoderTheorems, EndpointTheorems
from synthesis.retriever.port import Hit, QueryError, Theorems
from synthesis.retriever.transformer import TransformerTheorems

__all__ = [
    "BM25Theorems",
    "CorpusError",
    "EncoderTheorems",
    "EndpointTheorems",
    "Hit",
    "QueryError",
    "Theorems",
    "TransformerTheorems",
    "read_corpus",
]
