"""Many problems at once, in one event loop: a queue, workers that take from it, and every end that a run can have.

Each of ``concurrency`` workers takes the next problem when it is done with one, so a slow tree stalls nobody. A record
goes to the store the moment it is finished and is forgotten. However a run ends, killed, stopped, out of budget or
because nothing answers any more, finished problems are in the store and the answered calls of the others in the call
cache: the next run skips the former and is led through the latter in no time.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from radar_llm.calls import ServerError, Usage
from radar_llm.disk import despite_full_disk
from synthesis.problems import Problem
from synthesis.progress import Progress, Silent, Status
from synthesis.settings import Budget
from synthesis.solve import Parts, UnansweredError, solve
from synthesis.store import Record, Store, is_solved

_LOOK_SECONDS = 0.25  # between two looks at what might end a run
_UNANSWERED = 5  # problems in a row whose first calls all failed, after which the run is given up

_FULL = "waiting for disk space"

Ending = Literal["done", "stopped", "budget: calls", "budget: tokens", "budget: seconds"]


@dataclass(frozen=True)
class RunReport:
    """What a run came to.

    Attributes:
        total: Its problems.
        kept: Those of them that were in the store before.
        finished: Those that it put there.
        solved: Those in the store with a rollout of reward 1.
        ended: Why it ended.
        seconds: How long it took.
        usage: What the generator did.
    """

    total: int
    kept: int
    finished: int
    solved: int
    ended: Ending
    seconds: float
    usage: Usage

    @property
    def left(self) -> int:
        """Problems that are still to be done."""
        return self.total - self.kept - self.finished


class Stop:
    """The wish that a run end; ask once to finish what is under way, twice to end at once. For any thread."""

    def __init__(self) -> None:
        self.level = 0

    def ask(self) -> None:
        """Asks for it, once more."""
        self.level += 1

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Takes SIGINT and SIGTERM for the wish, in the main thread; elsewhere signals are left alone."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, lambda *_: self.ask()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Desk(Protocol):
    """Where workers get problems and bring records: here, or on another machine."""

    async def take(self) -> Problem | None:
        """Returns a problem that nobody works on, None if there is none left."""
        ...

    async def bring(self, record: Record) -> None:
        """Keeps a finished record for good."""
        ...


class StoreDesk:
    """A queue of what a store lacks.

    Args:
        problems: In the order in which they are to be begun.
        store: Where records go.
        configuration: Of the records.
    """

    def __init__(self, problems: Sequence[Problem], store: Store, configuration: str):
        self._store = store
        known = [store.solved(problem.id, configuration) for problem in problems]
        self.waiting = deque(problem for problem, solved in zip(problems, known, strict=True) if solved is None)
        self.kept = len(problems) - len(self.waiting)
        self.solved = known.count(True)

    async def take(self) -> Problem | None:
        """See :class:`Desk`."""
        return self.waiting.popleft() if self.waiting else None

    async def bring(self, record: Record) -> None:
        """See :class:`Desk`."""
        self._store.add(record)


async def run(
    problems: Sequence[Problem],
    parts: Parts,
    store: Store,
    *,
    concurrency: int = 256,
    shard: tuple[int, int] = (0, 1),
    longest_first: bool = False,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Solves the problems that the store lacks.

    Args:
        problems: All of them; no id twice.
        parts: What they are solved with.
        store: Where records go, one by one.
        concurrency: Problems worked on at once.
        shard: ``(i, n)``: of the problems, every n-th beginning with number i, counted from 0.
        longest_first: Whether problems with long texts are begun first, in the hope that they take longest.
        budget: Ends the run, to within a quarter of a second, with what is under way unfinished.
        stop: Ends the run when somebody asks; at once if it waits for space on a full disk.
        progress: Shows it.

    Returns:
        What it came to, whether or not all problems are done.

    Raises:
        ValueError: For a shard that doesn't exist.
        ServerError: If the language model cannot be asked, now or later, or refuses problem after problem.
    """
    index, shards = shard
    if not 0 <= index < shards:
        raise ValueError(f"there is no shard {index} of {shards}: they are numbered from 0 to {shards - 1}")
    mine = list(problems)[index::shards]
    if longest_first:
        mine.sort(key=lambda problem: -len(problem.text))
    desk = StoreDesk(mine, store, parts.configuration)
    status = Status(len(mine), kept=desk.kept, solved=desk.solved, usage=parts.generator.usage)
    if desk.waiting:
        await parts.generator.check()
    ended = await work(
        desk,
        parts,
        status,
        workers=min(concurrency, len(desk.waiting)),
        budget=budget,
        stop=stop or Stop(),
        progress=progress or Silent(),
    )
    return RunReport(
        status.total, status.kept, status.finished, status.solved, ended, round(status.seconds, 3), status.usage
    )


async def work(
    desk: Desk, parts: Parts, status: Status, *, workers: int, budget: Budget, stop: Stop, progress: Progress
) -> Ending:
    """Works until the desk has no more problems, or the run is to end; see :func:`run`."""
    unanswered = 0  # problems since the last finished one

    async def worker() -> None:
        nonlocal unanswered
        while not stop.level and (problem := await desk.take()) is not None:
            status.under_way += 1
            try:
                record = await solve(problem, parts)
                await despite_full_disk(partial(desk.bring, record), status.usage)
            except UnansweredError as error:
                unanswered += 1
                progress.note(
                    f"problem {problem.id} is left for the next run, since all its first calls failed: {error}"
                )
                if unanswered == _UNANSWERED:
                    raise ServerError(
                        f"the calls of {unanswered} problems in a row failed, the last with: {error}. See that the "
                        "model has a chat template, that the server takes these sampling values (actions.*), and that "
                        "prompts of this length fit into its context; then resume the run"
                    ) from error
                continue
            finally:
                status.under_way -= 1
            unanswered = 0
            status.finished += 1
            status.solved += is_solved(record)

    tasks = {asyncio.create_task(worker()) for _ in range(workers)}
    running = tasks
    try:
        while running:
            if status.usage.held or status.state == _FULL:
                status.state = _FULL if status.usage.held else ""
            progress.show(status)
            done, running = await asyncio.wait(running, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()  # raises what the worker did
            ended = spent(budget, status)
            if ended or stop.level > 1 or (stop.level and status.usage.held):  # a full disk lets nothing be finished
                return ended or "stopped"
            if stop.level and not status.state:
                progress.note(f"stopping: {status.under_way} problems are finished first; ask again to end at once")
                status.state = "stopping"
        return "stopped" if stop.level else "done"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if status.state == _FULL:
            status.state = ""
        progress.show(status)


def spent(budget: Budget, status: Status) -> Ending | None:
    """Says which part of a budget is used up, None if none is."""
    usage = status.usage
    if budget.calls is not None and usage.calls >= budget.calls:
        return "budget: calls"
    if budget.tokens is not None and usage.prompt_tokens + usage.generated_tokens >= budget.tokens:
        return "budget: tokens"
    if budget.seconds is not None and time.monotonic() - status.began >= budget.seconds:
        return "budget: seconds"
    return None
