"""The one documented format of training examples, and readers of others.

Every reader streams its input once, checks it, and leaves two memory-mapped tables in the cache: the examples, which
name documents by docno, and the documents' texts, each once. A second call on unchanged input opens the tables.
``docs/training-data.md`` describes the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.documents import Documents, collecting, join_fields, text_digest
from training.data.examples import SCHEMA, Example, Negative, TrainingSet, check_labels, check_texts, row
from training.data.format import parse_example, stem, write_examples
from training.data.records import DataError, Place, identifier, read_records, text
from training.data.tables import DEFAULT_CACHE, cache_file, digest, new_table, stamp

__all__ = [
    "DEFAULT_CACHE",
    "DataError",
    "Documents",
    "Example",
    "Negative",
    "TrainingSet",
    "concatenate",
    "from_qrels",
    "read_examples",
    "read_tevatron",
    "write_examples",
]

# Examples of a record, and the (docno, text) pairs it holds.
_Parsed = tuple[list[Example], list[tuple[str, str]]]


def read_examples(
    path: str | Path, documents: Documents | None = None, cache: str | Path = DEFAULT_CACHE
) -> TrainingSet:
    """Reads examples in our format: JSONL, gzipped JSONL or Parquet.

    Args:
        path: The file.
        documents: Where texts are found that the file leaves out.
        cache: Folder for the memory-mapped tables.

    Raises:
        DataError: For a broken record, one docno with two texts, a docno without a text, or a negative that is
            relevant; it names file and line.
        OSError: If the file cannot be read.
    """

    def parse(record: dict[str, Any], place: Place) -> _Parsed:
        example, texts = parse_example(record, place, default_id=f"{stem(path)}-{place.line}")
        return [example], texts

    return _read(path, "ours", parse, documents, cache)


def read_tevatron(path: str | Path, cache: str | Path = DEFAULT_CACHE) -> TrainingSet:
    """Reads the sets that the authors published, in Tevatron's format: JSONL, gzipped JSONL or Parquet.

    A query with several positives gives one example for each; the others are also relevant. A passage without a docid
    gets a digest of its text. A title stands in front of the text. All negatives have the origin ``"published"``.

    Args:
        path: The file.
        cache: Folder for the memory-mapped tables.

    Raises:
        DataError: As :func:`read_examples`.
        OSError: If the file cannot be read.
    """
    return _read(path, "tevatron", lambda record, place: _parse_tevatron(record, place, stem(path)), None, cache)


def _read(
    path: str | Path,
    kind: str,
    parse: Callable[[dict[str, Any], Place], _Parsed],
    base: Documents | None,
    cache: str | Path,
) -> TrainingSet:
    key = digest(kind, stamp(path), base.fingerprint if base else None)
    examples_file, documents_file = cache_file(cache, "examples", key), cache_file(cache, "documents", key)
    if not (examples_file.exists() and documents_file.exists()):
        with new_table(examples_file, SCHEMA) as append, collecting(documents_file, base) as collected:
            found = 0
            for place, record in read_records(path):
                examples, texts = parse(record, place)
                for docno, value in texts:
                    collected.add(docno, value, place)
                for example in examples:
                    check_labels(example, place)
                    check_texts(example, collected.text_digest, place)
                    append(*row(example))
                    found += 1
            if not found:
                raise DataError(f"{path}: holds no example: one object a line is expected")
    own = Documents.open(documents_file, source=str(path), fingerprint=key)
    return TrainingSet.open(examples_file, Documents.joined([base, own] if base else [own]))


def _parse_tevatron(record: dict[str, Any], place: Place, stem: str) -> _Parsed:
    given = record.get("query_id")
    query_id = f"{stem}-{place.line}" if given is None else identifier(given, place, "query_id")
    query = text(record.get("query"), place, "query")
    kind = record.get("query_type")
    query_type = "question" if kind is None else identifier(kind, place, "query_type")
    positives = list(_passages(record, "positive_passages", place))
    if not positives:
        raise DataError(f"{place}: positive_passages is empty: an example needs a relevant passage; remove the line")
    negatives = list(_passages(record, "negative_passages", place))
    rejected = tuple(Negative(docno, "published") for docno in dict(negatives))
    relevant = list(dict(positives))
    examples = [
        Example(query_id, query, query_type, positive, rejected, tuple(d for d in relevant if d != positive))
        for positive in relevant
    ]
    return examples, positives + negatives


def _passages(record: dict[str, Any], key: str, place: Place) -> Iterator[tuple[str, str]]:
    passages = record.get(key)
    if not isinstance(passages, list):
        raise DataError(f"{place}: {key} must be a list of passages: is this a file of Tevatron's format?")
    for number, passage in enumerate(passages, start=1):
        whose = f"passage {number} of {key}"
        if not isinstance(passage, dict):
            raise DataError(f"{place}: {whose} is a {type(passage).__name__}: it must be an object with a text")
        value = join_fields(passage, ("title", "text"), place, whose)
        docid = passage.get("docid")
        missing = docid is None or docid == ""
        yield (f"{text_digest(value):016x}" if missing else identifier(docid, place, f"the docid of {whose}")), value


def from_qrels(
    documents: Documents,
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    query_type: str = "question",
    cache: str | Path = DEFAULT_CACHE,
) -> TrainingSet:
    """Makes one example, without negatives, of every query and every document judged relevant (above 0) to it.

    Args:
        documents: The collection.
        queries: Texts by query id.
        qrels: Grades by query id and docno. Queries that only one of the two knows are left out.
        query_type: The type of all examples.
        cache: Folder for the memory-mapped table.

    Raises:
        DataError: For an empty query, a relevant document that is not in the collection, or no example at all.
    """
    relevant = {qid: [docno for docno, grade in qrels[qid].items() if grade > 0] for qid in queries if qid in qrels}
    wanted = [(qid, queries[qid], docnos) for qid, docnos in relevant.items() if docnos]
    if not wanted:
        raise DataError(
            f"none of {len(queries)} queries has a document judged above 0: do qrels use the same query ids?"
        )
    for qid, query, _ in wanted:
        text(query, "the queries given", f"query {qid!r}")
    path = cache_file(cache, "examples", digest("qrels", wanted, query_type, documents.fingerprint))
    if not path.exists():
        with new_table(path, SCHEMA) as append:
            for qid, query, docnos in wanted:
                for docno in docnos:
                    others = tuple(other for other in docnos if other != docno)
                    example = Example(qid, query, query_type, docno, (), others)
                    check_texts(example, documents.text_digest, f"the judgements of query {qid!r}")
                    append(*row(example))
    return TrainingSet.open(path, documents)


def concatenate(sets: Sequence[TrainingSet]) -> TrainingSet:
    """Returns all examples, in order, with all documents; nothing is copied.

    Raises:
        DataError: If there is no set, or one docno has two texts; it names both sources.
    """
    if not sets:
        raise DataError("no training sets to concatenate: give at least one")
    examples = datasets.concatenate_datasets([one.examples for one in sets])
    return TrainingSet(examples, Documents.joined([one.documents for one in sets]))
