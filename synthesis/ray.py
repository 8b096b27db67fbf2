"""The engine on a Ray cluster: many workers, one queue; an extra (``pip install 'pyterrier-radar[ray]'``).

One actor, the *desk*, has the queue and the store, on the machine that this is called on. Each worker is an actor with
an event loop, a generator and a retriever of its own; it takes problems from the desk and brings records back, as the
engine's workers do in one process. When a worker dies, the desk takes back what it was working on, and another one is
started. Workers keep their call caches in the run's folder, which must therefore be on a file system that all machines
share; they are merged at the end.

Nothing else in ``synthesis`` imports this module, and it imports Ray when it is called.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from radar_llm.calls import Usage
from synthesis.engine import Ending, RunReport, Stop, StoreDesk, spent, work
from synthesis.problems import Problem, read_problems
from synthesis.progress import Silent, Status
from synthesis.run import (
    CACHE_FILE,
    STORE_FILE,
    THEOREMS_FOLDER,
    claimed,
    locked,
    make_theorems,
    open_generator,
    open_verifier,
    read_theorems,
    with_sources,
)
from synthesis.settings import Budget, Settings
from synthesis.solve import Parts
from synthesis.store import Record, Store, is_solved

_LOOK_SECONDS = 0.5
_DEATHS = 10  # of each worker, before the run is given up


class SharedDesk:
    """A queue and a store for workers that may die.

    Args:
        problems: In the order in which they are to be begun.
        path: The store's file.
        configuration: Of the records.
    """

    def __init__(self, problems: Sequence[Problem], path: str, configuration: str):
        self._store = Store(path)
        self._desk = StoreDesk(problems, self._store, configuration)
        self._taken: dict[int, dict[str, Problem]] = {}
        self._finished, self._solved = 0, self._desk.solved

    async def take(self, worker: int) -> Problem | None:
        """Returns a problem that no worker has, None if there is none left."""
        problem = await self._desk.take()
        if problem is not None:
            self._taken.setdefault(worker, {})[problem.id] = problem
        return problem

    async def bring(self, worker: int, record: Record) -> None:
        """Keeps a record, also if it is brought a second time."""
        if self._store.add(record):
            self._finished += 1
            self._solved += is_solved(record)
        self._taken.get(worker, {}).pop(record["problem_id"], None)

    async def take_back(self, worker: int) -> int:
        """Puts what a worker had taken in front of the queue again; returns how many problems that was."""
        lost = self._taken.pop(worker, {})
        self._desk.waiting.extendleft(reversed(lost.values()))
        return len(lost)

    async def status(self) -> dict[str, int]:
        """Returns the figures of :class:`Status` that the desk knows."""
        return {
            "kept": self._desk.kept,
            "finished": self._finished,
            "solved": self._solved,
            "under_way": sum(map(len, self._taken.values())),
        }


class Worker:
    """What one actor does: the engine's work, with a desk that is elsewhere.

    Args:
        number: Of the worker.
        desk: The handle of the desk's actor.
        folder: The worker's own, for its calls and indexes.
        texts: The theorems.
        settings: Of the run.
        configuration: Of the records.
        api_key: For servers that want one.
    """

    def __init__(
        self,
        number: int,
        desk: Any,
        folder: str,
        texts: Mapping[str, str],
        settings: Settings,
        configuration: str,
        api_key: str | None,
    ):
        self._number, self._desk, self._folder, self._texts = number, desk, Path(folder), texts
        self._settings, self._configuration, self._key = settings, configuration, api_key
        self._stop, self._status = Stop(), Status(0)

    async def take(self) -> Problem | None:
        """See :class:`synthesis.engine.Desk`."""
        return await self._desk.take.remote(self._number)

    async def bring(self, record: Record) -> None:
        """See :class:`synthesis.engine.Desk`."""
        await self._desk.bring.remote(self._number, record)

    async def run(self) -> None:
        """Works until the desk has nothing more."""
        place = self._folder / THEOREMS_FOLDER
        # In a thread: an index may take minutes, and the actor is asked how it stands meanwhile.
        theorems = await asyncio.to_thread(make_theorems, self._settings.retriever, self._texts, place, self._key)
        async with AsyncExitStack() as stack:
            generator = await stack.enter_async_context(open_generator(self._settings, self._folder, self._key))
            verifier = await stack.enter_async_context(open_verifier(self._settings))
            await generator.check()
            self._status.usage = generator.usage
            await work(
                self,
                Parts(generator, theorems, verifier, self._settings, self._configuration),
                self._status,
                workers=self._settings.concurrency,
                budget=Budget(),  # it is the run's, and kept where the run is
                stop=self._stop,
                progress=Silent(),
            )

    async def usage(self) -> Usage:
        """Returns what its generator has done."""
        return self._status.usage

    async def stop(self) -> None:
        """Asks it to end; see :class:`Stop`."""
        self._stop.ask()


def synthesize_on_ray(
    problems: str | Path | Iterable[Problem | Mapping[str, Any]],
    corpus: str | Path | Mapping[str, str] | Iterable[Mapping[str, Any]],
    output: str | Path,
    *,
    workers: int,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    api_key: str | None = None,
    resources: Mapping[str, Any] | None = None,
) -> RunReport:
    """Does what :func:`synthesis.run.synthesize` does, by workers of a Ray cluster.

    Args:
        problems: See :func:`synthesis.run.synthesize`, like ``corpus``, ``settings`` and ``api_key``; each worker works
            on ``settings.concurrency`` problems at once.
        corpus: The theorems.
        output: The run's folder, on a file system that all machines share.
        workers: How many.
        settings: The paper's by default.
        api_key: For servers that want one.
        resources: What Ray is to reserve for each worker, such as ``{"num_cpus": 2, "num_gpus": 1}``.

    Returns:
        What it came to; the usage is that of the workers at their last look.

    Raises:
        ImportError: If Ray isn't installed.
        ServerError: If the language model cannot be asked.
        RuntimeError: If workers die again and again.
    """
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise ImportError("Ray is missing: pip install 'pyterrier-radar[ray]'") from error
    checked = read_problems(problems, without_answers=settings.consensus.samples > 0)
    texts = read_theorems(corpus)
    folder, stop = Path(output).absolute(), Stop()
    settings = with_sources(settings, folder, problems, corpus)
    if not ray.is_initialized():
        ray.init()
    with locked(folder), claimed(folder, settings, texts, checked) as (_, configuration), stop.on_signals():
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        desk = ray.remote(num_cpus=0, scheduling_strategy=here)(SharedDesk).remote(
            checked, str(folder / STORE_FILE), configuration
        )
        kept = ray.put(texts)
        kind = ray.remote(**(resources or {"num_cpus": 1}))(Worker)

        def start(number: int) -> Any:
            place = str(folder / f"worker-{number}")
            return kind.remote(number, desk, place, kept, settings, configuration, api_key)

        status = Status(len(checked), **ray.get(desk.status.remote()))
        try:
            ended = _watch(ray, start, workers, desk, status, settings.budget, stop)
        finally:
            status = replace(status, **ray.get(desk.status.remote()))
            ray.kill(desk)
            _merge_calls(folder)
    return RunReport(
        status.total, status.kept, status.finished, status.solved, ended, round(status.seconds, 3), status.usage
    )


def _watch(ray: Any, start: Any, workers: int, desk: Any, status: Status, budget: Budget, stop: Stop) -> Ending:
    """Keeps workers running until they are done, or the run is to end."""
    actors = {number: start(number) for number in range(workers)}
    running = {actor.run.remote(): number for number, actor in actors.items()}
    deaths: Counter[int] = Counter()
    usages: dict[tuple[int, int], Usage] = {}  # of each worker and each of its lives
    asked = 0
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=_LOOK_SECONDS)
            for reference in done:
                number = running.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayActorError as error:
                    deaths[number] += 1
                    if deaths[number] > _DEATHS:
                        raise RuntimeError(f"worker {number} died {_DEATHS} times: see Ray's logs") from error
                    ray.get(desk.take_back.remote(number))
                    actors[number] = start(number)
                    running[actors[number].run.remote()] = number
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
            looks = {number: actors[number].usage.remote() for number in running.values()}
            ready, _ = ray.wait(list(looks.values()), num_returns=len(looks), timeout=1.0) if looks else ([], [])
            for number, look in looks.items():
                if look in ready:
                    try:
                        usages[number, deaths[number]] = ray.get(look)
                    except ray.exceptions.RayActorError:
                        pass  # the next round of this loop replaces it
            status.usage = _sum(usages.values())
            ended = spent(budget, status)
            if ended or stop.level > 1:
                return ended or "stopped"
            if stop.level > asked:
                asked = stop.level
                for actor in actors.values():
                    actor.stop.remote()
        return "stopped" if stop.level else "done"
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _sum(usages: Iterable[Usage]) -> Usage:
    total = Usage()
    for usage in usages:
        for name, value in vars(usage).items():
            setattr(total, name, getattr(total, name) + value)
    return total


def _merge_calls(folder: Path) -> None:
    from radar_llm.cache import CallCache

    cache = CallCache(folder / CACHE_FILE)
    try:
        cache.merge(sorted(folder.glob(f"worker-*/{CACHE_FILE}")))
    finally:
        cache.close()
