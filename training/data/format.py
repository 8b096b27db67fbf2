"""Our format of one training example: its parser, and the writer, which parses whatever it writes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from torch_radar.files import replacing
from training.data.documents import Documents
from training.data.examples import Example, Negative, check_labels, check_texts
from training.data.records import DataError, Place, identifier, text

QUESTION = "question"

_KEYS = ("query_id", "query", "query_type", "positive", "negatives", "also_relevant", "provenance")
_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_GROUP_ROWS = 512

_DOCUMENT = [("docno", pa.string()), ("text", pa.large_string())]
_PARQUET = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("query_type", pa.string()),
        ("positive", pa.struct(_DOCUMENT)),
        ("negatives", pa.list_(pa.struct([*_DOCUMENT, ("origin", pa.string())]))),
        ("also_relevant", pa.list_(pa.string())),
        ("provenance", pa.string()),
    ]
)


def parse_example(record: Mapping[str, Any], place: Place, default_id: str) -> tuple[Example, list[tuple[str, str]]]:
    """Returns the example of one record and the (docno, text) pairs that it holds.

    Null stands for a key left out, because Parquet knows no other way.

    Args:
        record: The JSON object or Parquet row.
        place: Where it stands, for messages.
        default_id: The query id where the record has none.

    Raises:
        DataError: For a missing, unknown or mistaken value.
    """
    _check_keys(record, _KEYS, place, "the record")
    texts: list[tuple[str, str]] = []
    query_id, query_type = record.get("query_id"), record.get("query_type")
    _required(record, "query", place, "the record")
    positive = _required(record, "positive", place, "the record")
    negatives = _list(_required(record, "negatives", place, "the record"), place, "negatives")
    example = Example(
        query_id=default_id if query_id is None else identifier(query_id, place, "query_id"),
        query=text(record["query"], place, "query"),
        query_type=QUESTION if query_type is None else identifier(query_type, place, "query_type"),
        positive=_docno(positive, ("docno", "text"), place, "positive", texts),
        negatives=tuple(_negative(negative, place, f"negative {n}", texts) for n, negative in enumerate(negatives, 1)),
        also_relevant=tuple(
            identifier(docno, place, "a docno of also_relevant")
            for docno in _list(record.get("also_relevant") or [], place, "also_relevant")
        ),
        provenance=_provenance(record.get("provenance"), place),
    )
    return example, texts


def _negative(value: Any, place: Place, what: str, texts: list[tuple[str, str]]) -> Negative:
    docno = _docno(value, ("docno", "text", "origin"), place, what, texts)
    return Negative(docno, identifier(_required(value, "origin", place, what), place, f"the origin of {what}"))


def _docno(value: Any, keys: tuple[str, ...], place: Place, what: str, texts: list[tuple[str, str]]) -> str:
    if not isinstance(value, Mapping):
        raise DataError(f'{place}: {what} is a {type(value).__name__}: write {{"docno": …, "text": …}}')
    _check_keys(value, keys, place, what)
    docno = identifier(_required(value, "docno", place, what), place, f"the docno of {what}")
    if value.get("text") is not None:
        texts.append((docno, text(value["text"], place, f"the text of {what}, docno {docno!r},")))
    return docno


def _provenance(value: Any, place: Place) -> dict[str, Any]:
    """Returns a plain JSON object; Parquet holds it as a string."""
    try:
        plain = json.loads(value if isinstance(value, str) else json.dumps({} if value is None else value))
        json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{place}: provenance is not plain JSON ({error}): write an object of plain values") from error
    if not isinstance(plain, dict):
        raise DataError(f"{place}: provenance is a JSON {type(plain).__name__}: write an object")
    return plain


def _required(record: Mapping[str, Any], key: str, place: Place, what: str) -> Any:
    if record.get(key) is None:
        remedy = "write [] where there are none" if key == "negatives" else f"it has {', '.join(record) or 'nothing'}"
        raise DataError(f"{place}: {what} has no {key!r}; {remedy}")
    return record[key]


def _list(value: Any, place: Place, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{place}: {what} is a {type(value).__name__}: it must be a list")
    return value


def _check_keys(record: Mapping[str, Any], known: tuple[str, ...], place: Place, what: str) -> None:
    for key, value in record.items():
        if key not in known and value is not None:
            close = get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "what else is known of an example goes into provenance"
            raise DataError(f"{place}: {what} has an unknown key {key!r}: {hint}")


def stem(path: str | Path) -> str:
    """Returns a file's name without the suffix of its format."""
    name = Path(path).name
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), Path(name).stem)


def write_examples(path: str | Path, examples: Iterable[Example], documents: Documents | None = None) -> None:
    """Writes examples in our format; the file appears under its name when it is whole.

    Whatever is written is what :func:`~training.data.read_examples` gives back, equal.

    Args:
        path: Ends in ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.
        examples: A :class:`TrainingSet`, or any examples; streamed.
        documents: Where the texts are; without them the file holds docnos alone and is read with documents.

    Raises:
        DataError: For another suffix, no example, or an example that could not be read back; nothing is written.
    """
    path = Path(path)
    suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: its name must end in {', '.join(_SUFFIXES)}")
    written = 0
    with replacing(path) as aside, _writer(aside, suffix) as write:
        for written, example in enumerate(examples, start=1):
            place = Place(str(path), written)
            check_labels(example, place)
            if documents is not None:
                check_texts(example, documents.text_digest, place)
            record = _record(example, documents)
            if parse_example(record, place, default_id="")[0] != example:
                raise DataError(
                    f"{place}: the example of query {example.query_id!r} would be read back differently: ids must be "
                    "strings, sequences tuples, provenance plain JSON"
                )
            write(record)
        if not written:
            raise DataError(f"{path}: there is no example to write")


def _record(example: Example, documents: Documents | None) -> dict[str, Any]:
    def document(docno: str) -> dict[str, str]:
        return {"docno": docno} if documents is None else {"docno": docno, "text": documents.text(docno)}

    return {
        "query_id": example.query_id,
        "query": example.query,
        "query_type": example.query_type,
        "positive": document(example.positive),
        "negatives": [document(negative.docno) | {"origin": negative.origin} for negative in example.negatives],
        "also_relevant": list(example.also_relevant),
        "provenance": example.provenance,
    }


@contextmanager
def _writer(path: Path, suffix: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    if suffix == ".parquet":
        with _parquet_writer(path) as write:
            yield write
        return
    with open(path, "wb") as file:
        # No name and no time in the header: equal examples, equal files.
        lines = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if suffix.endswith(".gz") else file

        def write(record: dict[str, Any]) -> None:
            lines.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

        with lines:
            yield write


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    group: list[dict[str, Any]] = []

    def flush() -> None:
        file.write_batch(pa.RecordBatch.from_pylist(group, schema=_PARQUET))
        group.clear()

    def write(record: dict[str, Any]) -> None:
        group.append(record | {"provenance": json.dumps(record["provenance"])})
        if len(group) >= _GROUP_ROWS:
            flush()

    with pq.ParquetWriter(path, _PARQUET) as file:
        yield write
        if group:
            flush()
