"""Trajectories to training triples, streamed: read the store, write one dataset (paper §4, Appendix E).

1. A first pass over the store notes which theorems were accepted for each problem, and which problems are evaluation
   queries.
2. Problems are worked on side by side; each gives *drafts*, queries with positives and negatives.
3. Drafts are taken in the order of problem ids, freed of duplicates, and written.

The language model is asked through the call cache, so a run that is made again asks it nothing twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from synthesis.card import write_card
from synthesis.decontaminate import EvaluationQueries
from synthesis.files import write_text
from synthesis.samples.dataset import Dataset, Survey
from synthesis.samples.drafts import Drafted, Drafter
from synthesis.samples.questions import Questions, Writer
from synthesis.samples.settings import SampleSettings
from synthesis.store import Record, Store
from synthesis.uses import uses
from torch_radar.files import replacing

if TYPE_CHECKING:
    from synthesis.retriever import Theorems

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def make_samples(
    store: Store,
    generator: Writer,
    bm25: Theorems,
    dense: Theorems,
    folder: str | Path,
    *,
    settings: SampleSettings = SampleSettings(),  # noqa: B008 - frozen
    seed: int = 0,
    against: EvaluationQueries | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int], object] = lambda problems: None,
) -> dict[str, Any]:
    """Writes ``train.jsonl``, its data card ``README.md`` and its figures ``samples.json`` into a folder of their own.

    Args:
        store: The records. Problems are taken in the order of their ids, so the same records give the same file, in
            whatever order they were finished.
        generator: Writes the ``llmq`` and ``lexical`` queries.
        bm25: The theorem corpus ranked by BM25.
        dense: The same corpus ranked by an encoder.
        folder: Where the dataset goes; what an earlier call wrote there is replaced when all is made.
        settings: What to make, and how.
        seed: The run's.
        against: Evaluation queries: problems and queries that are among them are left out and reported.
        about: What the card says of where the data comes from: names of the problems, the corpus, the model.
        progress: Called with the number of problems done since it was called last.

    Returns:
        What ``samples.json`` holds: see ``docs/synthesis.md``.

    Raises:
        ValueError: If a record names a theorem that the corpus lacks, no sample came of the records, or the folder
            holds a ``README.md`` that is not a dataset's.
        ServerError: If the language model cannot be asked; nothing is written.
    """
    folder = Path(folder)
    if (folder / "README.md").exists() and not (folder / "samples.json").exists():
        raise ValueError(f"{folder} has a README.md of something else: give the dataset a folder of its own")
    survey = Survey(store, against)
    questions = Questions(generator, settings, seed)
    drafter = Drafter(questions, bm25, dense, settings)
    dataset = Dataset(survey, settings, against, drafter.text)
    lexical_turns: Counter[str] = Counter()

    def start(record: Record) -> Coroutine[Any, Any, Drafted]:
        found = [] if record["problem_id"] in survey.contaminated else uses(record)
        turns: dict[int, int] = {}
        for docno, use in {use.docno: use for use in reversed(found)}.items():  # the first use of each theorem
            if lexical_turns[docno] < settings.lexical_queries:
                turns[use.node] = lexical_turns[docno]
                lexical_turns[docno] += 1
        return drafter.drafts(found, survey.judgements(record), turns)

    with replacing(folder / "train.jsonl") as aside:
        with open(aside, "wb") as file:
            async with aclosing(_in_order(_by_id(store, survey), start, settings.concurrency)) as problems:
                async for drafted in problems:
                    for sample in dataset.take(drafted):
                        file.write(json.dumps(sample, ensure_ascii=False).encode() + b"\n")
                    progress(1)
        report = dataset.report(about or {}, questions.calls)
        if not report["samples"]:
            raise ValueError(
                f"no sample came of {survey.counts['records']} problems, {survey.counts['with_uses']} of them with a "
                "theorem on the way to a right answer: synthesise more problems, or look at the views of some"
            )
    write_text(folder / "samples.json", json.dumps(report, indent=1, ensure_ascii=False))
    write_card(report, folder / "README.md")
    return report


def _by_id(store: Store, survey: Survey) -> Iterator[Record]:
    for problem_id in sorted(survey.problem_ids):
        yield from sorted(store.get(problem_id), key=lambda record: record["configuration"])


async def _in_order(
    items: Iterable[_Item], start: Callable[[_Item], Coroutine[Any, Any, _Result]], width: int
) -> AsyncGenerator[_Result]:
    """Works on up to ``width`` items at once and gives the results in the order of the items."""
    running: deque[asyncio.Task[_Result]] = deque()
    try:
        for item in items:
            running.append(asyncio.create_task(start(item)))
            if len(running) >= width:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
