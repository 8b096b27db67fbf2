"""Miners propose hard negatives: each ranks a corpus for queries. :mod:`training.negatives` decides whom to take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm.auto import tqdm

from torch_radar.batching import windows
from torch_radar.encoder import WINDOW, Encoder
from torch_radar.vectors import VectorStore
from training.data import DataError, Documents

# Where JAX is installed, importing bm25s starts it, and it would keep three quarters of a GPU to itself.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import bm25s  # noqa: E402
from bm25s.tokenization import Tokenizer  # noqa: E402

Ranking = list[tuple[str, float]]
"""(docno, score) pairs, best first."""


class Miner(Protocol):
    """Ranks a corpus for queries.

    Attributes:
        name: Stands in the origin of a negative: ``"bm25"`` in ``"bm25-37"``.
    """

    name: str

    def settings(self) -> dict[str, Any]:
        """Everything that changes a ranking, as plain JSON, known without doing the work."""

    def rank(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """The best ``depth`` documents of each query, fewer where there are no more; the same at every call."""


@runtime_checkable
class ScoringMiner(Miner, Protocol):
    """A miner whose scores are comparable between documents that it ranks and any others of its corpus."""

    def scores(self, queries: Sequence[str], docnos: Sequence[Sequence[str]]) -> list[list[float]]:
        """For each query, the scores of the documents listed for it."""


class BM25Miner:
    """BM25 (Lucene's variant) over words, English stop words left out; stemmed where PyStemmer is installed.

    The index is made at the first ranking, in memory.

    Args:
        documents: The corpus.
        k1: Saturation of term frequency.
        b: Weight of document length.
        name: Stands in origins.
    """

    def __init__(self, documents: Documents, *, k1: float = 0.9, b: float = 0.4, name: str = "bm25"):
        self.name = name
        self.k1, self.b = k1, b
        self._documents = documents
        self._stemmer = _english_stemmer()

    def settings(self) -> dict[str, Any]:
        """See :class:`Miner`."""
        return {
            "method": "lucene",
            "k1": self.k1,
            "b": self.b,
            "stop_words": "english",
            "stemmer": "english" if self._stemmer else None,
            "documents": contents(self._documents),
        }

    def rank(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """See :class:`Miner`; documents that share no word with the query are left out, ties go by number."""
        tokenizer, index, docnos = self._index
        words = tokenizer.streaming_tokenize(queries, update_vocab=False, allow_empty=False)
        return [_best(index.get_scores_from_ids(ids), docnos, depth) if ids else [] for ids in words]

    @cached_property
    def _index(self) -> tuple[Tokenizer, bm25s.BM25, list[str]]:
        docnos = self._documents.docnos()
        tokenizer = Tokenizer(stopwords="english", stemmer=self._stemmer)
        texts = (self._documents.text(docno) for docno in tqdm(docnos, desc="bm25", unit=" documents", leave=False))
        ids = list(tokenizer.streaming_tokenize(texts, update_vocab=True, allow_empty=False))
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        if any(ids):  # a corpus of stop words alone has no average length; no query will have a known word either
            index.index((ids, tokenizer.get_vocab_dict()), create_empty_token=False, show_progress=False)
        return tokenizer, index, docnos


class EncoderMiner:
    """A retriever checkpoint over a vector store of the corpus, searched exactly.

    The corpus is encoded at the first ranking, shard by shard; a run that was killed goes on behind its last shard,
    and later runs read the store.

    Args:
        documents: The corpus.
        encoder: What encodes documents and queries.
        folder: The store's folder, of this encoder and corpus alone.
        name: Stands in origins; the last part of the checkpoint's name if not given.
        window: Documents in a shard.

    Raises:
        StoreMismatchError: If the folder holds vectors of another encoder or corpus; it names what differs.
    """

    def __init__(
        self, documents: Documents, encoder: Encoder, folder: str | Path, *, name: str = "", window: int = WINDOW
    ):
        self.name = name or Path(encoder.checkpoint.name).name
        self._documents, self._encoder, self._folder, self._window = documents, encoder, Path(folder), window
        self._store_settings = encoder.document_settings() | {"documents": contents(documents)}
        self._last: tuple[Sequence[str], np.ndarray] = ((), np.empty((0, 0), dtype=np.float32))
        if VectorStore.exists(self._folder):
            VectorStore.open(self._folder).require_settings(self._store_settings)

    def settings(self) -> dict[str, Any]:
        """See :class:`Miner`."""
        return self._store_settings | {
            "query_prefix": self._encoder.template.query_prefix,
            "instruction": self._encoder.instruction,
            "max_query_tokens": self._encoder.max_query_tokens,
            "dtype": str(self._encoder.dtype),
        }

    def encode_documents(self) -> None:
        """Encodes the corpus now, if it is not yet, and not at the first ranking."""
        _ = self._store

    def rank(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """See :class:`Miner`; scores are cosines."""
        device = self._encoder.device
        hits = self._store.search(
            self._vectors(queries), min(depth, len(self._store)), device=str(device) if device.type == "cuda" else None
        )
        docnos = iter(self._store.docnos(hits.rows.ravel()))
        return [[(next(docnos), float(score)) for score in scores] for scores in hits.scores]

    def scores(self, queries: Sequence[str], docnos: Sequence[Sequence[str]]) -> list[list[float]]:
        """See :class:`ScoringMiner`.

        Raises:
            DataError: For a document that is not in the corpus.
        """
        result = []
        for vector, names in zip(self._vectors(queries), docnos, strict=True):
            rows = self._store.rows(names)
            for name, row in zip(names, rows, strict=True):
                if row < 0:
                    raise DataError(
                        f"{name!r} is a positive but not among the documents of the miner {self.name!r}: give the "
                        "miner all documents of the training set"
                    )
            result.append((self._store.gather(rows) @ vector).tolist())
        return result

    def _vectors(self, queries: Sequence[str]) -> np.ndarray:
        if queries != self._last[0]:  # ranked first, then scored: the same queries, encoded once
            self._last = queries, self._encoder.encode_queries(queries)
        return self._last[1]

    @cached_property
    def _store(self) -> VectorStore:
        if VectorStore.exists(self._folder):
            store = VectorStore.open(self._folder)
        else:
            store = VectorStore.create(self._folder, dimension=self._encoder.dimension, settings=self._store_settings)
        docnos = self._documents.docnos()
        with tqdm(total=len(docnos), initial=len(store), desc=self.name, unit=" documents", leave=False) as bar:
            for window in windows(islice(docnos, len(store), None), self._window):
                store.append(window, self._encoder.encode_documents([self._documents.text(docno) for docno in window]))
                bar.update(len(window))
        if not store.is_complete:
            store.complete()
        return store


class RandomMiner:
    """Documents drawn evenly from the corpus, each query's own: easy negatives.

    Args:
        documents: The corpus.
        how_many: Documents of each query, at most.
        seed: Of the draws.
        name: Stands in origins.
    """

    def __init__(self, documents: Documents, how_many: int, *, seed: int = 0, name: str = "random"):
        self.name = name
        self.how_many, self.seed = how_many, seed
        self._documents = documents

    def settings(self) -> dict[str, Any]:
        """See :class:`Miner`."""
        return {"how_many": self.how_many, "seed": self.seed, "documents": contents(self._documents)}

    def rank(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        """See :class:`Miner`; every score is 0."""
        docnos = self._documents.docnos()
        count = min(self.how_many, depth, len(docnos))
        rankings = []
        for query in queries:
            digest = int.from_bytes(blake2b(query.encode(), digest_size=8).digest(), "big")
            drawn = np.random.default_rng([self.seed, digest]).choice(len(docnos), count, replace=False)
            rankings.append([(docnos[int(row)], 0.0) for row in drawn])
        return rankings


def contents(documents: Documents) -> str:
    """Returns 32 hexadecimal digits of all docnos and texts, in order, wherever they are stored."""
    digest = blake2b(digest_size=16)
    for docno in documents.docnos():
        digest.update(f"{documents.text_digest(docno)} {docno}\n".encode())
    return digest.hexdigest()


def _best(scores: np.ndarray, docnos: Sequence[str], depth: int) -> Ranking:
    """The ``depth`` best documents above 0; equal scores by number, so that the order is always the same."""
    threshold = np.partition(scores, -depth)[-depth] if depth < len(scores) else 0
    rows = np.flatnonzero((scores >= threshold) & (scores > 0))
    rows = rows[np.argsort(-scores[rows], kind="stable")][:depth]
    return [(docnos[int(row)], float(scores[row])) for row in rows]


def _english_stemmer() -> Any:
    try:
        return import_module("Stemmer").Stemmer("english")
    except ModuleNotFoundError:
        return None
