"""Training examples: a query, the document that answers it, documents that do not; memory-mapped on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from training.data.documents import Documents
from training.data.records import DataError, Place
from training.data.tables import damage_named

SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("query_type", pa.string()),
        ("positive", pa.string()),
        ("negatives", pa.list_(pa.string())),
        ("origins", pa.list_(pa.string())),
        ("also_relevant", pa.list_(pa.string())),
        ("provenance", pa.string()),
    ]
)


@dataclass(frozen=True)
class Negative:
    """A document that does not answer the query, and how it was found, such as ``"bm25"``."""

    docno: str
    origin: str


@dataclass(frozen=True)
class Example:
    """One row to train on. Documents are named by docno; their texts are in :class:`Documents`.

    Attributes:
        query_id: Several examples may share it: one for each relevant document.
        query: The query's text.
        query_type: What kind of query it is, such as ``"question"``; plans weight examples by it.
        positive: The document to rank first.
        negatives: Documents to rank below it, in the order of the file.
        also_relevant: Further relevant documents, which must not serve as in-batch negatives. They need no text.
        provenance: Where the example came from, as plain JSON.
    """

    query_id: str
    query: str
    query_type: str
    positive: str
    negatives: tuple[Negative, ...] = ()
    also_relevant: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict, hash=False)


class TrainingSet:
    """Examples and the documents they name.

    Attributes:
        examples: One row an example, with the columns of ``SCHEMA``; memory-mapped. ``negatives`` and ``origins``
            are parallel, ``provenance`` is a JSON string.
        documents: The texts of all positives and negatives.
    """

    def __init__(self, examples: datasets.Dataset, documents: Documents):
        missing = [name for name in SCHEMA.names if name not in examples.column_names]
        if missing:
            raise DataError(f"the examples have no column {', '.join(missing)}: make them with read_examples")
        self.examples, self.documents = examples, documents

    @classmethod
    def open(cls, path: Path, documents: Documents) -> TrainingSet:
        """Memory-maps a table of examples."""
        with damage_named(path):
            return cls(datasets.Dataset.from_file(str(path)), documents)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Example:
        return _example(self.examples[int(i)])

    def __iter__(self) -> Iterator[Example]:
        return map(_example, self.examples)


def row(example: Example) -> tuple[Any, ...]:
    """Returns an example as the values of ``SCHEMA``'s columns."""
    return (
        example.query_id,
        example.query,
        example.query_type,
        example.positive,
        [negative.docno for negative in example.negatives],
        [negative.origin for negative in example.negatives],
        list(example.also_relevant),
        json.dumps(example.provenance),
    )


def _example(values: Mapping[str, Any]) -> Example:
    return Example(
        query_id=values["query_id"],
        query=values["query"],
        query_type=values["query_type"],
        positive=values["positive"],
        negatives=tuple(map(Negative, values["negatives"], values["origins"])),
        also_relevant=tuple(values["also_relevant"]),
        provenance=json.loads(values["provenance"]),
    )


def check_labels(example: Example, place: Place | str) -> None:
    """Refuses an example whose labels contradict each other, judged by docno alone.

    Raises:
        DataError: For a negative that is the positive, or that is also relevant.
    """
    for negative in example.negatives:
        if negative.docno == example.positive:
            raise DataError(f"{place}: negative {negative.docno!r} is the positive itself: remove it")
        if negative.docno in example.also_relevant:
            raise DataError(f"{place}: {negative.docno!r} is a negative and in also_relevant: remove it from one")


def check_texts(example: Example, text_digest: Callable[[str], int | None], place: Place | str) -> None:
    """Refuses an example that names a document nobody has, or whose negative has the positive's text.

    Args:
        example: The example.
        text_digest: Gives 64 bits that equal texts share, or None for an unknown docno.
        place: Where the example stands, for the message.

    Raises:
        DataError: As above.
    """
    positive = _known(example.positive, text_digest, place)
    for negative in example.negatives:
        if _known(negative.docno, text_digest, place) == positive:
            raise DataError(
                f"{place}: negative {negative.docno!r} has the text of the positive {example.positive!r}: remove it"
            )


def _known(docno: str, text_digest: Callable[[str], int | None], place: Place | str) -> int:
    digest = text_digest(docno)
    if digest is None:
        raise DataError(
            f"{place}: docno {docno!r} has no text, neither here nor on an earlier line nor in the documents: give its "
            "text, or documents that hold it"
        )
    return digest
