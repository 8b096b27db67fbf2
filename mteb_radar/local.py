"""Tasks from files of your own, without a network: BRIGHT's shape, and RAR-b's choices (torch_radar.local_tasks)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.benchmarks import Benchmark

from torch_radar.local_tasks import (
    DOCUMENTS,
    EXAMPLES,
    LONG_DOCUMENTS,
    LocalTask,
    find_lines,
    read_bright_folder,
    read_choices,
)


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
        folder: See :mod:`torch_radar.local_tasks`.
        name: Name of the task; ``None`` is the folder's, with ``Long`` behind it for long documents.
        long: Whether long documents are retrieved (recall@1) instead of passages (nDCG@10).

    Raises:
        FileNotFoundError: The folder lacks a file.
        ValueError: A record is broken, an id occurs twice, or an example names a document that is not there.
    """
    task = read_bright_folder(folder, long=long)
    metadata = _metadata(
        name or Path(folder).resolve().name + ("Long" if long else ""),
        "long" if long else "standard",
        "recall_at_1" if long else "ndcg_at_10",
        f"From {' and '.join(path.name for path in task.files)}.",
        _digest(*task.files),
    )
    return LocalRetrieval(metadata, _split(task))


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
        if find_lines(place, file)
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
    metadata = _metadata(name or path.stem, "test", "ndcg_at_10", f"Multiple choice, from {path.name}.", _digest(path))
    return LocalRetrieval(metadata, _split(read_choices(path)))


def _split(task: LocalTask) -> dict[str, Any]:
    top_ranked = None
    if any(task.excluded.values()):
        everything = list(task.documents)
        top_ranked = {qid: [docno for docno in everything if docno not in task.excluded[qid]] for qid in task.queries}
    return {
        "corpus": Dataset.from_dict({"id": list(task.documents), "text": list(task.documents.values())}),
        "queries": Dataset.from_dict({"id": list(task.queries), "text": list(task.queries.values())}),
        "relevant_docs": task.relevant,
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


def _digest(*paths: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
