"""Workers that may die: the desk that they share, a worker's loop, and, where Ray is installed, a cluster."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radar_llm.calls import Usage
from synthesis.ray import SharedDesk, Worker, _sum, synthesize_on_ray
from synthesis.settings import GeneratorSettings, RetrieverSettings, Settings
from synthesis.store import Store
from tests.synthesis import solver
from tests.synthesis.parts import content, served, some_problems, with_tree
from tests.synthesis.records import solved


class Handle:
    """An actor's handle without an actor: ``handle.take.remote(1)`` awaits ``take(1)``."""

    def __init__(self, actor: Any):
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._actor, name)
        return type("Method", (), {"remote": staticmethod(method)})


def settings_for(url: str) -> Settings:
    return replace(
        with_tree(rollouts=1, max_depth=3),
        generator=GeneratorSettings(urls=(url,), model="solver"),
        retriever=RetrieverSettings(kind="endpoint", url=url, model="solver", batch=1),
        concurrency=2,
    )


def test_what_a_dead_worker_had_taken_is_taken_by_another(tmp_path: Path):
    async def go() -> None:
        desk = SharedDesk(some_problems(4), str(tmp_path / "store"), "c0ffee")
        first, second = await desk.take(0), await desk.take(0)
        third = await desk.take(1)
        await desk.bring(0, solved(first.id))
        assert await desk.status() == {"kept": 0, "finished": 1, "solved": 1, "under_way": 2}
        assert await desk.take_back(0) == 1 and await desk.take_back(0) == 0
        assert [await desk.take(1), (await desk.take(1)).id] == [second, some_problems(4)[3].id]
        assert await desk.take(1) is None
        await desk.bring(1, solved(third.id))
        await desk.bring(0, solved(third.id))  # it wasn't dead after all
        assert (await desk.status())["finished"] == 2

    asyncio.run(go())


def test_workers_of_which_one_dies_do_what_one_run_does(tmp_path: Path):
    problems, texts = some_problems(6), solver.theorems()

    async def go() -> None:
        async with solver.Solver(load=solver.Load(first_token_seconds=0.02)) as served:
            settings = settings_for(served.url)
            for name, kills in (("killed", 1), ("whole", 0)):
                desk = SharedDesk(problems, str(tmp_path / name), "c0ffee")
                workers = [
                    Worker(n, Handle(desk), str(tmp_path / f"{name}-{n}"), texts, settings, "c0ffee", None)
                    for n in range(2 + kills)
                ]
                running = [asyncio.create_task(worker.run()) for worker in workers[:2]]
                if kills:
                    while (await desk.status())["under_way"] < 4:
                        await asyncio.sleep(0.01)
                    running[0].cancel()
                    await asyncio.gather(running.pop(0), return_exceptions=True)
                    assert await desk.take_back(0) > 0
                    running.append(asyncio.create_task(workers[2].run()))
                await asyncio.gather(*running)
                assert (await desk.status())["finished"] == 6
                assert (await workers[1].usage()).calls > 0

    asyncio.run(go())
    with Store(tmp_path / "killed") as killed, Store(tmp_path / "whole") as whole:
        records = [{record["problem_id"]: content(record) for record in store} for store in (killed, whole)]
    assert records[0] == records[1] and len(records[0]) == 6


def test_usages_add_up():
    assert _sum([Usage(calls=1, busy_seconds=0.5), Usage(calls=2, retried=3)]) == Usage(3, retried=3, busy_seconds=0.5)


def test_a_cluster_of_which_one_worker_is_killed(tmp_path: Path):
    ray, psutil = pytest.importorskip("ray"), pytest.importorskip("psutil")
    killed: list[int] = []

    def kill_one(server: solver.Solver) -> None:
        while server.tally.calls.total() < 10:
            time.sleep(0.01)
        processes = psutil.Process().children(recursive=True)
        worker = next(process for process in processes if "".join(process.cmdline()).startswith("ray::Worker"))
        worker.kill()
        killed.append(worker.pid)

    ray.init(num_cpus=4)
    try:
        with served(load=solver.Load(first_token_seconds=0.05)) as server:
            settings = settings_for(server.url)
            killer = threading.Thread(target=kill_one, args=(server,), daemon=True)
            killer.start()
            report = synthesize_on_ray(solver.problems(20), solver.theorems(), tmp_path, workers=3, settings=settings)
            killer.join()
    finally:
        ray.shutdown()
    assert killed
    assert (report.finished, report.left, report.ended) == (20, 0, "done")
    with Store(tmp_path / "problems.sqlite") as store:
        assert len({record["problem_id"] for record in store}) == len(store) == 20
