"""Tasks from files of your own, without a network: BRIGHT's shape, and RAR-b's choices.

A folder in BRIGHT's shape holds ``documents.jsonl`` (id, content), ``examples.jsonl`` (id, query, gold_ids, and where
there are any excluded_ids) and, for long documents, ``long_documents.jsonl`` with gold_ids_long in the examples. Every
file may be gzipped (``.jsonl.gz``).
"""

from __future__ import annotations

import ast
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.benchmarks import Benchmark

from torch_radar.lines import read_json_lines

DOCUMENTS, LONG_DOCUMENTS, EXAMPLES = "documents", "long_documents", "examples"


class LocalRetrieval(AbsTaskRetrieval):
    """A retrieval task whose data is in memory; made by :func:`local_task` and :func:`choice_task`."""

    data_loaded: bool

    def __init__(self, metadata: TaskMetadata, split: Mapping[str, Any]) -> None:
        self.metadata = metadata
        super().__init__()
        self.split = split
        self.load_data()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Puts the data where mteb looks for it."""
        if not self.data_loaded:
            self.dataset = {"default": {self.metadata.eval_splits[0]: dict(self.split)}}
            self.data_loaded = True


def local_task(folder: str | Path, *, name: str | None = None, long: bool = False) -> LocalRetrieval:
    """Returns the task of a folder in BRIGHT's shape, as mteb would make it of BRIGHT.

    Args:
        folder: See the module's docstring.
        name: Name of the task; ``None`` is the folder's, with ``Long`` behind it for long documents.
        long: Whether long documents are retrieved (recall@1) instead of passages (nDCG@10).

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: A record is broken, an id occurs twice, or an example names a document that is not there.
    """
    folder = Path(folder)
    documents_path = _existing(folder, LONG_DOCUMENTS if long else DOCUMENTS)
    examples_path = _existing(folder, EXAMPLES)
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
    top_ranked = None
    if any(excluded.values()):
        everything = list(documents)
        top_ranked = {qid: [docno for docno in everything if docno not in excluded[qid]] for qid in queries}
    return LocalRetrieval(
        _metadata(
            name or folder.resolve().name + ("Long" if long else ""),
            "long" if long else "standard",
            "recall_at_1" if long else "ndcg_at_10",
            f"From {documents_path.name} and {examples_path.name}.",
            _digest(documents_path, examples_path),
        ),
        _split(documents, queries, relevant, top_ranked),
    )


def local_benchmark(folder: str | Path) -> Benchmark:
    """Returns the tasks of a folder in BRIGHT's shape, or of a folder of such folders.

    Raises:
        FileNotFoundError: There is none.
    """
    folder = Path(folder)
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())] if folder.is_dir() else []
    tasks = [
        local_task(place, long=long)
        for place in places
        for file, long in ((DOCUMENTS, False), (LONG_DOCUMENTS, True))
        if _find(place, file)
    ]
    if not tasks:
        raise FileNotFoundError(f"neither {folder} nor a folder in it holds {DOCUMENTS}.jsonl and {EXAMPLES}.jsonl")
    return Benchmark(name=folder.resolve().name, tasks=tasks, description=f"Tasks from {folder.resolve().name}.")


def choice_task(path: str | Path, *, name: str | None = None) -> LocalRetrieval:
    """Returns one of RAR-b's multiple-choice sets as retrieval: the corpus is every distinct candidate of the file.

    Args:
        path: CSV with ``queries``, ``documents`` (a Python list of strings) and ``labels`` (the right one's place).
        name: Name of the task; ``None`` is the file's.

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
            if not isinstance(choices, list) or label < 0:
                raise ValueError(row["labels"])
            chosen = [docnos.setdefault(choice.strip(), f"c{len(docnos)}") for choice in choices]
            query, gold = row["queries"], chosen[label]
        except (KeyError, ValueError, SyntaxError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, row {number}: needs queries, documents (a list of strings) and labels (a place in it)"
            ) from error
        queries[f"q{number}"], relevant[f"q{number}"] = query, {gold: 1}
    if not queries:
        raise ValueError(f"{path} has no row")
    documents = {docno: text for text, docno in docnos.items()}
    metadata = _metadata(name or path.stem, "test", "ndcg_at_10", f"Multiple choice, from {path.name}.", _digest(path))
    return LocalRetrieval(metadata, _split(documents, queries, relevant, None))


def _split(
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    relevant: Mapping[str, dict[str, int]],
    top_ranked: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    return {
        "corpus": Dataset.from_dict({"id": list(documents), "text": list(documents.values())}),
        "queries": Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
        "relevant_docs": relevant,
        "top_ranked": top_ranked,
    }


def _metadata(name: str, split: str, main_score: str, description: str, revision: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        description=description,
        type="Retrieval",
        category="t2t",
        dataset={"path": f"local/{name}", "revision": revision},
        eval_splits=[split],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for end in (".jsonl", ".jsonl.gz") if (path := folder / f"{name}{end}").is_file()), None)


def _existing(folder: Path, name: str) -> Path:
    path = _find(folder, name)
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


def _digest(*paths: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
