"""Readers of documents and queries: JSONL, TSV or TREC topics, plain or gzip.

What a file holds that it should not is reported as :class:`FileFormatError` with the file, the line and the
remedy.  Judgements and runs are read by :mod:`pyterrier_radar._trec`, on the same terms.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from torch_radar.lines import read_text_lines

EmptyText = Literal["error", "skip", "keep"]

DOCNO_NAMES = ("docno", "doc_id", "_id", "id")
TEXT_NAMES = ("text", "contents")
QID_NAMES = ("qid", "query_id", "query-id", "_id", "id")
QUERY_NAMES = ("query", "text")

_TOPIC = re.compile(r"<top>(.*?)</top>", re.DOTALL | re.IGNORECASE)
_TOPIC_NUMBER = re.compile(r"<num>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
_TOPIC_TITLE = re.compile(
    r"<title>\s*(?:Topic:)?(.*?)(?=</?(?:title|desc|narr|num|smry|con|fac|def)\b|$)",
    re.DOTALL | re.IGNORECASE,
)


class FileFormatError(ValueError):
    """A file holds something that it should not; the message names the file, the line and the remedy."""

    def __init__(self, path: str | Path, line: int | None, problem: str):
        self.path, self.line = Path(path), line
        place = f"{path}:{line}" if line else f"{path}"
        super().__init__(f"{place}: {problem}")


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Yields (number from 1, text) of each line that is not blank, as UTF-8, without its line end.

    Lines end at ``\n`` only: a form feed or U+2028 inside a text is part of the text.

    Raises:
        FileFormatError: where a line is not UTF-8 or the gzip data is damaged.
        OSError: if the file cannot be read.
    """
    for number, line in read_text_lines(path, partial(FileFormatError, path)):
        yield number, line.rstrip("\r\n")


def read_documents(
    path: str | Path, *, text_field: str | None = None, empty_text: EmptyText = "error"
) -> Iterator[dict[str, str]]:
    """Streams documents from JSONL or TSV, plain or gzip.

    Args:
        path: JSONL objects, or TSV with a header line or with the two columns docno and text.
        text_field: the field to read as the text; ``None`` means ``text`` (or ``contents``), with a
            ``title``, where there is one, put in front of it.
        empty_text: what to do with a document without text: raise, leave it out, or yield it.

    Yields:
        ``{"docno": …, "text": …}`` with the record's other string fields.

    Raises:
        FileFormatError: for a broken line, a missing field, a text that is no text, or a repeated docno.
        OSError: if the file cannot be read.
    """
    seen: set[str] = set()
    for line, record in _records(path, columns=("docno", "text"), id_names=DOCNO_NAMES):
        docno = identifier(path, line, record, DOCNO_NAMES, "docno")
        if docno in seen:
            raise FileFormatError(path, line, f"docno {docno!r} occurs a second time: docnos must be unique")
        seen.add(docno)
        text = _text(path, line, record, (text_field,) if text_field else TEXT_NAMES, f"document {docno!r}")
        title = record.get("title")
        if text_field is None and isinstance(title, str) and title.strip():
            text = f"{title} {text}".rstrip()
        if not text.strip() and empty_text != "keep":
            if empty_text == "skip":
                continue
            remedy = "give it one, or leave such documents out (--empty-text skip)"
            raise FileFormatError(path, line, f"document {docno!r} has an empty text: {remedy}")
        extras = {k: v for k, v in record.items() if isinstance(v, str) and k not in DOCNO_NAMES}
        yield {"docno": docno, **extras, "text": text}


def read_queries(path: str | Path) -> pd.DataFrame:
    """Reads queries from JSONL, TSV or TREC topics (their titles), plain or gzip.

    Returns:
        a frame with the string columns ``qid`` and ``query``, in the file's order.

    Raises:
        FileFormatError: for a broken line, a missing field, an empty query, or a repeated qid.
        OSError: if the file cannot be read.
    """
    rows: dict[str, str] = {}
    _, first_line = next(read_lines(path), (0, ""))
    if first_line.lstrip().lower().startswith("<top>"):
        records = _trec_topics(path)
    else:
        records = _records(path, columns=("qid", "query"), id_names=QID_NAMES)
    for line, record in records:
        qid = identifier(path, line, record, QID_NAMES, "qid")
        if qid in rows:
            raise FileFormatError(path, line, f"qid {qid!r} occurs a second time: qids must be unique")
        query = _text(path, line, record, QUERY_NAMES, f"query {qid!r}")
        if not query.strip():
            raise FileFormatError(path, line, f"query {qid!r} has an empty text: give it one or remove the line")
        rows[qid] = query
    if not rows:
        raise FileFormatError(path, None, "holds no query")
    return pd.DataFrame({"qid": list(rows), "query": list(rows.values())}, dtype=str)


def _records(
    path: str | Path, *, columns: tuple[str, str], id_names: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line, record) of a JSONL or TSV file; the first line tells which, and if it is a header."""
    names: list[str] = list(columns)
    is_json = False
    for index, (line, text) in enumerate(read_lines(path)):
        if index == 0:
            is_json = text.lstrip().startswith("{")
        if is_json:
            yield line, parse_json(path, line, text)
            continue
        cells = text.split("\t")
        if index == 0 and cells[0].strip().lower() in id_names and len(cells) > 1:
            names = [cell.strip().lower() for cell in cells]
            continue
        if len(cells) != len(names):
            problem = (
                f"has {len(cells)} tab-separated columns, not {len(names)} ({', '.join(names)}): "
                "write JSONL if texts hold tabs, or check that this file is JSONL or TSV at all"
            )
            raise FileFormatError(path, line, problem)
        yield line, dict(zip(names, cells, strict=True))


def parse_json(path: str | Path, line: int, text: str) -> dict[str, Any]:
    """The JSON object on a line; anything else is a :class:`FileFormatError`."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, line, f"is not valid JSON ({error}): one object a line is expected") from error
    if not isinstance(record, dict):
        problem = f"is a JSON {type(record).__name__}, not an object: one object a line is expected"
        raise FileFormatError(path, line, problem)
    return record


def _trec_topics(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line, {"qid", "query"}) of each ``<top>`` block; the query is the title."""
    numbered = list(read_lines(path))
    content = "\n".join(text for _, text in numbered)
    for block in _TOPIC.finditer(content):
        line = numbered[content.count("\n", 0, block.start())][0]
        number, title = _TOPIC_NUMBER.search(block[1]), _TOPIC_TITLE.search(block[1])
        if number is None or title is None:
            raise FileFormatError(path, line, "this <top> has no <num> or no <title>: each topic needs both")
        yield line, {"qid": number[1], "query": " ".join(title[1].split())}


def identifier(path: str | Path, line: int, record: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    """The record's first field among ``names``: a non-empty string, or an integer written as one."""
    name = next((name for name in names if name in record), None)
    if name is None:
        raise FileFormatError(path, line, f"has no {what}: name a field {', '.join(names)}")
    value = record[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise FileFormatError(path, line, f"the {what} in {name!r} is {value!r}: it must be a non-empty string")
    return check_unicode(path, line, value, f"the {what}")


def _text(path: str | Path, line: int, record: Mapping[str, Any], names: tuple[str, ...], whose: str) -> str:
    name = next((name for name in names if name in record), None)
    if name is None:
        have = ", ".join(sorted(map(str, record))) or "nothing"
        raise FileFormatError(path, line, f"{whose} has no field {' or '.join(map(repr, names))}; it has {have}")
    value = record[name]
    if not isinstance(value, str):
        shown = "null" if value is None else f"a {type(value).__name__}"
        raise FileFormatError(path, line, f"{name!r} of {whose} is {shown}: it must be a string")
    return check_unicode(path, line, value, f"{name!r} of {whose}")


def check_unicode(path: str | Path, line: int | None, value: str, what: str) -> str:
    """Refuses lone surrogates, which JSON escapes can smuggle in and no tokenizer or index can encode."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"{what} holds half of a surrogate pair at character {error.start}: repair the JSON escapes"
        raise FileFormatError(path, line, problem) from error
    return value
