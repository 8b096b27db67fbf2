"""Test collections in local files: BRIGHT's shape, and RAR-b's choices; every framework's room reads them here.

A folder in BRIGHT's shape holds ``documents.jsonl`` (id, content), ``examples.jsonl`` (id, query, gold_ids, and where
there are any excluded_ids) and, for long documents, ``long_documents.jsonl`` with gold_ids_long in the examples. A
rewrite of the queries is a file of its own, named as BRIGHT's configuration of it: ``gpt4_reason.jsonl`` (id, query).
Every file may be gzipped (``.jsonl.gz``).
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch_radar.lines import read_json_lines

DOCUMENTS, LONG_DOCUMENTS, EXAMPLES = "documents", "long_documents", "examples"


@dataclass(frozen=True)
class LocalTask:
    """A collection with its queries and judgements.

    Attributes:
        documents: Text by docno.
        queries: Text by qid.
        relevant: Relevant documents by qid, each with its grade.
        excluded: Documents that no ranking of a query may hold, by qid.
        files: What was read, the documents' file first.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]
    excluded: dict[str, set[str]]
    files: tuple[Path, ...]


def read_bright_folder(folder: str | Path, *, long: bool = False) -> LocalTask:
    """Reads a folder in BRIGHT's shape (see the module's docstring).

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: A record is broken, an id occurs twice, or an example names a document that is not there.
    """
    folder = Path(folder)
    documents_path = existing(folder, LONG_DOCUMENTS if long else DOCUMENTS)
    examples_path = existing(folder, EXAMPLES)
    documents = dict(_unique(documents_path, "content"))
    gold_field = "gold_ids_long" if long else "gold_ids"
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    excluded: dict[str, set[str]] = {}
    for line, record in _records(examples_path):
        qid, query = _field(examples_path, line, record, "id"), _field(examples_path, line, record, "query")
        if qid in queries:
            raise ValueError(f"{examples_path}:{line}: the id {qid!r} occurs twice")
        gold = _docnos(examples_path, line, record, gold_field)
        if not gold:
            raise ValueError(f"{examples_path}:{line}: {gold_field} is empty, and a list of document ids is needed")
        left_out = _docnos(examples_path, line, record, "excluded_ids") if record.get("excluded_ids") else []
        excluded[qid] = {docno for docno in left_out if docno != "N/A"}
        # what a query excludes are passages, also where long documents are retrieved
        for docno in gold if long else [*gold, *sorted(excluded[qid])]:
            if docno not in documents:
                raise ValueError(f"{examples_path}:{line}: document {docno!r} is not in {documents_path}")
        queries[qid], relevant[qid] = query, dict.fromkeys(gold, 1)
    if not queries:
        raise ValueError(f"{examples_path} has no example")
    return LocalTask(documents, queries, relevant, excluded, (documents_path, examples_path))


def read_rewrite(folder: str | Path, rewrite: str) -> dict[str, str]:
    """Reads a rewrite of the queries of a folder in BRIGHT's shape: text by qid.

    Raises:
        FileNotFoundError: The folder has no such rewrite.
        ValueError: A record is broken, or an id occurs twice.
    """
    return dict(_unique(existing(Path(folder), rewrite), "query"))


def read_choices(path: str | Path) -> LocalTask:
    """Reads one of RAR-b's multiple-choice sets as retrieval: the corpus is every distinct candidate of the file.

    Args:
        path: CSV with ``queries``, ``documents`` (a Python list of strings) and ``labels`` (the right one's place).

    Raises:
        ValueError: A row is broken (the message has its number), or there is none.
    """
    path = Path(path)
    docnos: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    for number, row in enumerate(_rows(path), start=1):
        try:
            choices = ast.literal_eval(row["documents"])  # reads a literal, runs nothing
            label = int(row["labels"])
            query = row["queries"]
            if not isinstance(choices, list) or label < 0 or not query:
                raise ValueError(row["labels"])
            chosen = [docnos.setdefault(choice.strip(), f"c{len(docnos)}") for choice in choices]
            gold = chosen[label]
        except (KeyError, ValueError, SyntaxError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, row {number}: needs queries, documents (a list of strings) and labels (a place in it)"
            ) from error
        queries[f"q{number}"], relevant[f"q{number}"] = query, {gold: 1}
    if not queries:
        raise ValueError(f"{path} has no row")
    return LocalTask({docno: text for text, docno in docnos.items()}, queries, relevant, {}, (path,))


def find_lines(folder: Path, name: str) -> Path | None:
    """Returns the file ``name.jsonl`` of a folder, plain or gzipped, where there is one."""
    return next((path for end in (".jsonl", ".jsonl.gz") if (path := folder / f"{name}{end}").is_file()), None)


def existing(folder: Path, name: str) -> Path:
    """Returns the file ``name.jsonl`` of a folder, plain or gzipped.

    Raises:
        FileNotFoundError: There is none.
    """
    path = find_lines(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder} holds no {name}.jsonl: a folder in BRIGHT's shape has one")
    return path


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        try:
            yield from rows
        except csv.Error as error:
            raise ValueError(f"{path}:{rows.line_num + 1}: {error}") from error


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, record in read_json_lines(path, lambda line, problem: ValueError(f"{path}:{line}: {problem}")):
        if not isinstance(record, dict):
            raise ValueError(f"{path}:{number} is not a JSON object")
        yield number, record


def _field(path: Path, number: int, record: Mapping[str, Any], field: str) -> str:
    value = record.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{path}:{number}: {field} is {value!r}, and a string is needed")
    return value


def _docnos(path: Path, number: int, record: Mapping[str, Any], field: str) -> list[str]:
    value = record.get(field)
    if not isinstance(value, list) or not all(isinstance(docno, str) for docno in value):
        raise ValueError(f"{path}:{number}: {field} is {value!r}, and a list of document ids is needed")
    return value


def _unique(path: Path, field: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, record in _records(path):
        docno = _field(path, number, record, "id")
        if docno in seen:
            raise ValueError(f"{path}:{number}: the id {docno!r} occurs twice")
        seen.add(docno)
        yield docno, _field(path, number, record, field)
