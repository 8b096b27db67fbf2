"""Guards against false negatives: which documents must not stand as negatives of an example, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np

from training.data import DataError, Example, TrainingSet
from training.data.documents import text_digest

GUARDS = ("positive", "also_relevant", "own_document", "same_text", "same_document", "margin", "duplicate")
"""The guards' names, in the order in which they are asked."""


class Relevance:
    """What the whole training set holds relevant to each query: 32 bytes an example.

    Attributes:
        documents: The training set's.
        fingerprint: Changes when any example changes.
        grouping: Changes when ``same_document`` gives another answer; None without one.
    """

    def __init__(self, training_set: TrainingSet, same_document: Callable[[str], str] | None = None):
        self.documents, self._same_document = training_set.documents, same_document
        self._docnos = self.documents.docnos()
        # Two entries an example: positives by the digest of the query's id, and by that of its text.
        keys, positives = np.empty((2, 2 * len(training_set)), dtype=np.uint64)
        digest = blake2b(digest_size=16)
        for row, values in enumerate(training_set.examples):
            digest.update(json.dumps(values, sort_keys=True).encode())
            keys[2 * row : 2 * row + 2] = _keys(values["query_id"], values["query"])
            positives[2 * row : 2 * row + 2] = self.documents.number(values["positive"])
        order = np.argsort(keys, kind="stable")
        self._keys, self._positives = keys[order], positives[order]
        self.fingerprint = digest.hexdigest()
        self.grouping = _digest(map(same_document, self._docnos)) if same_document else None

    def relevant(self, example: Example) -> set[str]:
        """Returns the positive, what is also relevant, and the positives of examples of the same query or query id."""
        docnos = {example.positive, *example.also_relevant}
        for key in np.array(_keys(example.query_id, example.query), dtype=np.uint64):
            first, last = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right"))
            docnos.update(self._docnos[int(number)] for number in self._positives[first:last])
        return docnos

    def group(self, docno: str) -> str | None:
        """Returns the document that a passage is of; None if nobody said how to know."""
        return self._same_document(docno) if self._same_document else None


class Guard:
    """The guards of one example.

    Args:
        example: The example; its negatives count as taken.
        relevance: What is relevant to whom.
        vetoed: Documents that an encoder scores too near the positive, or above it.
    """

    def __init__(self, example: Example, relevance: Relevance, vetoed: set[str]):
        self._example, self._relevance, self._vetoed = example, relevance, vetoed
        self._documents = relevance.documents
        self._relevant = relevance.relevant(example)
        known = {docno for docno in self._relevant if docno in self._documents}
        self._texts = {self._documents.text_digest(docno) for docno in known}
        own = {example.query_id} if example.query_id in self._documents else set()
        self._groups = {relevance.group(docno) for docno in known | own} - {None}
        self._taken: set[str] = set()
        self._taken_texts: set[int | None] = set()
        for negative in example.negatives:
            self.take(negative.docno)

    def take(self, docno: str) -> None:
        """Notes a negative of the example, which is not to be one twice."""
        self._taken.add(docno)
        self._taken_texts.add(self._documents.text_digest(docno))

    def removes(self, docno: str) -> str | None:
        """Returns the first guard (of :data:`GUARDS`) against a document, or None if it may be a negative.

        Raises:
            DataError: If the training set has no such document.
        """
        text = self._documents.text_digest(docno)
        if text is None:
            raise DataError(
                f"a miner proposes {docno!r} for query {self._example.query_id!r}, and the training set has no such "
                "document: mine among its documents, or join the miner's to them with Documents.joined"
            )
        against = {
            "positive": docno == self._example.positive,
            "also_relevant": docno in self._relevant,
            "own_document": docno == self._example.query_id,
            "same_text": text in self._texts,
            "same_document": self._relevance.group(docno) in self._groups,
            "margin": docno in self._vetoed,
            "duplicate": docno in self._taken or text in self._taken_texts,
        }
        return next((name for name in GUARDS if against[name]), None)


def _keys(query_id: str, query: str) -> tuple[int, int]:
    return text_digest(f"id {query_id}"), text_digest(f"text {query}")


def _digest(values: Iterable[str]) -> str:
    digest = blake2b(digest_size=16)
    for value in values:
        digest.update(f"{value!r}\n".encode())
    return digest.hexdigest()
