"""BRIGHT with reasoning queries as tasks of their own, and tasks and benchmarks by name, ours and mteb's.

BRIGHT ships five rewrites of every query, by different language models; the paper's 39.2 is on GPT-4's. mteb has the
original queries only. Corpus, judgements and exclusions here are those of the BRIGHT(v1.1) task of the same name, and
the query is the column ``query`` of BRIGHT's configuration of that rewrite, as in BRIGHT's own evaluation code.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import mteb
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.benchmarks import Benchmark

from torch_radar.instructions import BRIGHT_REWRITES

BRIGHT = "BRIGHT(v1.1)"
REWRITES_PATH = "xlangai/BRIGHT"
REWRITES_REVISION = "a75a0eb483f6a5233a6efc2d63d71540a4443dfb"
"""The commit that mteb's first BRIGHT tasks name."""


class BrightReasoningRetrieval(AbsTaskRetrieval):
    """A BRIGHT(v1.1) task under one rewrite of its queries; made by :func:`reasoning_task`."""

    data_loaded: bool
    original: type[AbsTaskRetrieval]
    rewrite: str
    domain: str

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Loads the original task and puts the rewritten queries in place of its own.

        Raises:
            ValueError: A query has no rewrite.
        """
        if self.data_loaded:
            return
        original = self.original()
        original.load_data(num_proc=num_proc, **kwargs)
        original.convert_v1_dataset_format_to_v2(num_proc=num_proc)
        self.dataset = original.dataset
        rewritten = self._rewritten()
        for split in self.dataset["default"].values():
            qids = split["queries"]["id"]
            if missing := [qid for qid in qids if not rewritten.get(qid)]:
                raise ValueError(f"{self.rewrite} has no query {missing[0]!r} of {self.original.metadata.name}")
            queries = split["queries"].remove_columns("text")
            split["queries"] = queries.add_column("text", [rewritten[qid] for qid in qids])
        self.data_loaded = True

    def _rewritten(self) -> dict[str, str]:
        from datasets import load_dataset

        rows = load_dataset(REWRITES_PATH, self.rewrite, split=self.domain, revision=REWRITES_REVISION)
        return dict(zip(rows["id"], rows["query"], strict=True))


@cache
def _reasoning_class(task: str, rewrite: str) -> type[BrightReasoningRetrieval]:
    original = type(mteb.get_task(task))
    metadata = original.metadata.model_copy(
        update={
            "name": f"{task}.{rewrite}",
            "description": f"{original.metadata.description} The queries are BRIGHT's rewrite {rewrite}.",
            "dataset": dict(original.metadata.dataset)
            | {"revision": f"{original.metadata.revision}+{REWRITES_REVISION}"},
            "adapted_from": [task],
        }
    )
    fields = {"metadata": metadata, "original": original, "rewrite": rewrite, "domain": _domain(task)}
    return type(f"{original.__name__}_{rewrite}", (BrightReasoningRetrieval,), fields)


def reasoning_task(task: str, rewrite: str) -> BrightReasoningRetrieval:
    """Returns a BRIGHT(v1.1) task with rewritten queries, named ``BrightBiologyRetrieval.gpt4_reason`` and the like.

    Args:
        task: Name of the task in BRIGHT(v1.1), short or long.
        rewrite: One of :data:`~torch_radar.instructions.BRIGHT_REWRITES`.

    Raises:
        ValueError: BRIGHT has no such task or rewrite.
    """
    if rewrite not in BRIGHT_REWRITES:
        raise ValueError(f"BRIGHT has no rewrite {rewrite!r}; it has {', '.join(BRIGHT_REWRITES)}")
    if task not in (names := _bright_tasks()):
        raise ValueError(f"{BRIGHT} has no task {task!r}; it has {', '.join(names)}")
    return _reasoning_class(task, rewrite)()


def find_task(name: str) -> AbsTask:
    """Returns a task by its name in mteb, or one of BRIGHT's with ``.`` and a rewrite behind it.

    Args:
        name: Such as ``BrightPonyRetrieval``, ``BrightPonyLongRetrieval.gpt4_reason``, ``Touche2020Retrieval.v3``.

    Raises:
        ValueError: There is no such task; the message says what there is.
    """
    original, dot, rewrite = name.partition(".")
    try:
        return mteb.get_task(name)
    except KeyError as error:
        if dot and original in _bright_tasks():
            return reasoning_task(original, rewrite)
        raise ValueError(f"mteb has no task {name!r}: {error.args[0]}") from error


def with_splits(task: AbsTask, splits: Sequence[str]) -> AbsTask:
    """Restricts a task to some of its splits; with none named it is returned as it is.

    Raises:
        ValueError: The task has no such split.
    """
    for split in splits:
        if split not in task.metadata.eval_splits:
            raise ValueError(
                f"{task.metadata.name} has no split {split!r}; it has {', '.join(task.metadata.eval_splits)}"
            )
    return task.filter_eval_splits(list(splits)) if splits else task


def those_with_splits(tasks: Sequence[AbsTask], splits: Sequence[str]) -> list[AbsTask]:
    """Restricts each task to those of the splits that it has, and leaves out tasks that have none of them.

    Raises:
        ValueError: No task has one of the splits.
    """
    there = sorted({split for task in tasks for split in task.metadata.eval_splits})
    if unknown := [split for split in splits if split not in there]:
        raise ValueError(f"none of the {len(tasks)} tasks has a split {unknown[0]!r}; they have {', '.join(there)}")
    own = [[split for split in splits if split in task.metadata.eval_splits] for task in tasks]
    return [with_splits(task, some) for task, some in zip(tasks, own, strict=True) if some or not splits]


def find_benchmark(name: str) -> Benchmark:
    """Returns a benchmark by its name in mteb, or BRIGHT under a rewrite: ``BRIGHT(v1.1).gpt4_reason``.

    Its tasks are copies: mteb's own are shared by all who ask for them, and evaluating a task changes it.

    Raises:
        ValueError: There is no such benchmark; the message names the nearest.
    """
    ours = {f"{BRIGHT}.{rewrite}": rewrite for rewrite in BRIGHT_REWRITES}
    if name in ours:
        original = mteb.get_benchmark(BRIGHT)
        return Benchmark(
            name=name,
            tasks=[reasoning_task(task.metadata.name, ours[name]) for task in original.tasks],
            description=f"{original.description} The queries are BRIGHT's rewrite {ours[name]}.",
            reference=original.reference,
            citation=original.citation,
        )
    try:
        found = mteb.get_benchmark(name)
    except KeyError as error:
        known = [*ours, *(benchmark.name for benchmark in mteb.get_benchmarks())]
        close = get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f": did you mean {', or '.join(close)}?" if close else ""
        raise ValueError(f"there is no benchmark {name!r}{hint}") from error
    return replace(found, tasks=deepcopy(list(found.tasks)))


def _bright_tasks() -> list[str]:
    return [task.metadata.name for task in mteb.get_benchmark(BRIGHT).tasks]


def _domain(task: str) -> str:
    """BRIGHT's split id of a task: ``BrightEarthScienceLongRetrieval`` is earth_science."""
    words = task.removeprefix("Bright").removesuffix("Retrieval").removesuffix("Long")
    words = words.replace("TheoremQA", "Theoremqa")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in words).lstrip("_")
