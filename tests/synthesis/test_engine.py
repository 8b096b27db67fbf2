"""Many problems at once: every record once, whatever ends the run, and nothing lost by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from radar_llm import disk
from radar_llm.calls import ServerError, Usage
from synthesis.engine import RunReport, Stop, run
from synthesis.problems import Problem
from synthesis.progress import Lines, Silent, Status, duration
from synthesis.settings import Budget
from synthesis.store import Store
from tests.synthesis.parts import content, small_parts, some_problems, with_tree
from tests.synthesis.solver import Faults, Load, Solver

QUICK = with_tree(rollouts=1, max_depth=3)


def ran(
    store: Store,
    cache: Path,
    number: int = 6,
    *,
    load: Load | None = None,
    faults: Faults | None = None,
    during: Callable[[Solver, Status], None] | None = None,
    retries: int = 3,
    **options: Any,
) -> RunReport:
    """Runs the first problems of the world; ``during`` sees the server and the status several times a second."""

    class Watching(Silent):
        def show(self, status: Status) -> None:
            if during:
                during(served, status)

    async def go() -> RunReport:
        nonlocal served
        async with served, small_parts(served, cache, QUICK, retries) as parts:
            return await run(some_problems(number), parts, store, progress=Watching(), **options)

    served = Solver(load=load, faults=faults)
    return asyncio.run(go())


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "problems.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a run that nothing disturbs makes of the first problems."""
    folder = tmp_path_factory.mktemp("expected")
    with Store(folder / "problems.sqlite") as store:
        report = ran(store, folder / "calls.sqlite")
        assert (report.ended, report.left) == ("done", 0)
        return by_id(store)


def by_id(store: Store) -> dict[str, dict[str, Any]]:
    return {record["problem_id"]: content(record) for record in store}


def slowly(seconds: float, slots: int = 8) -> Load:
    return Load(slots=slots, first_token_seconds=seconds)


def test_every_problem_is_stored_once_and_a_second_run_does_nothing(store, tmp_path, expected):
    first = ran(store, tmp_path / "calls")
    assert (first.total, first.kept, first.finished, first.left, first.ended) == (6, 0, 6, 0, "done")
    assert first.solved == sum(store.solved(name, "c0ffee") for name in expected)
    second = ran(store, tmp_path / "calls", faults=Faults(down=(0, 1e9)))  # no server is needed for nothing
    assert (second.kept, second.finished, second.usage.calls) == (6, 0, 0) and second.solved == first.solved
    assert by_id(store) == expected and len(store) == 6


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_changes_no_record(store, tmp_path, expected, concurrency):
    ran(store, tmp_path / "calls", concurrency=concurrency)
    assert by_id(store) == expected


def test_no_more_problems_than_wished_are_under_way(store, tmp_path):
    seen = []
    ran(store, tmp_path / "calls", load=slowly(0.02), concurrency=2, during=lambda _, s: seen.append(s.under_way))
    assert max(seen) == 2


def test_shards_share_the_problems_out_and_merge_to_the_whole(store, tmp_path, expected):
    sizes = []
    for index in range(4):
        with Store(tmp_path / f"shard-{index}") as shard:
            ran(shard, tmp_path / f"calls-{index}", shard=(index, 4))
            sizes.append(len(shard))
    assert sizes == [2, 2, 1, 1]
    store.merge(tmp_path / f"shard-{index}" for index in range(4))
    assert by_id(store) == expected


@pytest.mark.parametrize("shard", [(4, 4), (-1, 2), (0, 0)])
def test_a_shard_that_does_not_exist_is_refused(store, tmp_path, shard):
    with pytest.raises(ValueError, match="there is no shard"):
        ran(store, tmp_path / "calls", shard=shard)


def test_long_problems_can_be_begun_first(store, tmp_path):
    ran(store, tmp_path / "calls", concurrency=1, longest_first=True)
    lengths = [len(record["problem"]) for record in store]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("budget", "ended"),
    [
        (Budget(calls=30), "budget: calls"),
        (Budget(tokens=20_000), "budget: tokens"),
        (Budget(seconds=0.6), "budget: seconds"),
    ],
)
def test_a_budget_ends_the_run_and_the_next_goes_on_from_there(store, tmp_path, expected, budget, ended):
    first = ran(store, tmp_path / "calls", load=slowly(0.03, slots=2), budget=budget, concurrency=2)
    assert first.ended == ended and first.left > 0
    second = ran(store, tmp_path / "calls", concurrency=2)
    assert second.ended == "done" and second.kept == first.finished
    assert second.usage.cached > 0, "what the first run asked is not asked again"
    assert by_id(store) == expected


def test_asked_once_to_stop_a_run_finishes_what_is_under_way(store, tmp_path):
    stop, begun = Stop(), []

    def ask(_: Solver, status: Status) -> None:
        if status.under_way and not stop.level:
            stop.ask()
            begun.append(status.finished + status.under_way)

    report = ran(store, tmp_path / "calls", load=slowly(0.05), concurrency=2, stop=stop, during=ask)
    assert report.ended == "stopped" and 2 <= report.finished < 6
    assert [report.finished] == begun


def test_asked_twice_it_ends_at_once(store, tmp_path):
    stop = Stop()
    began = time.monotonic()
    report = ran(
        store, tmp_path / "calls", load=slowly(60), stop=stop, during=lambda _, s: stop.ask() if s.under_way else None
    )
    assert (report.ended, report.finished) == ("stopped", 0)
    assert time.monotonic() - began < 20


def test_a_server_that_goes_down_ends_the_run_and_what_is_finished_stays(store, tmp_path, expected):
    def pull_the_plug(served: Solver, status: Status) -> None:
        if status.finished >= 2:
            served.faults = Faults(down=(0, 1e9))

    with pytest.raises(ServerError, match="no server answers"):
        ran(store, tmp_path / "calls", load=slowly(0.03), concurrency=2, during=pull_the_plug, retries=0)
    assert 2 <= len(store) < 6
    ran(store, tmp_path / "calls")
    assert by_id(store) == expected


def test_a_wrong_model_is_said_before_any_work(store, tmp_path):
    async def go() -> None:
        async with Solver(model="another") as served, small_parts(served, settings=QUICK) as parts:
            await run(some_problems(2), parts, store)

    with pytest.raises(ServerError, match="doesn't have the model 'solver'; it has another"):
        asyncio.run(go())
    assert len(store) == 0


def test_faults_of_a_server_change_no_record(store, tmp_path, expected):
    faults = Faults(refused=0.1, retry_after=0.01, errors=0.05, disconnects=0.05, truncated=0.05)
    report = ran(store, tmp_path / "calls", faults=faults, retries=10)
    assert report.usage.retried > 10
    assert by_id(store) == expected


def unlike_any(problem: Problem) -> Problem:
    """A problem whose prompts are longer than the server takes."""
    return replace(problem, text="x" * 300_000)


def test_a_server_that_refuses_every_call_ends_the_run_and_leaves_nothing_that_looks_finished(store):
    async def go() -> None:
        async with Solver(longest_prompt=10) as served, small_parts(served, settings=QUICK) as parts:
            await run(some_problems(60), parts, store, concurrency=4)

    with pytest.raises(ServerError, match="problems in a row.*maximum context length.*chat template"):
        asyncio.run(go())
    assert len(store) == 0


def test_a_problem_that_is_refused_among_others_is_left_for_the_next_run_and_named(store, expected):
    notes = []

    class Noting(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    async def go() -> RunReport:
        problems = some_problems(6)
        async with Solver() as served, small_parts(served, settings=QUICK) as parts:
            problems[2] = unlike_any(problems[2])
            return await run(problems, parts, store, concurrency=1, progress=Noting())

    report = asyncio.run(go())
    assert (report.ended, report.finished, report.left) == ("done", 5, 1)
    left = some_problems(6)[2].id
    assert by_id(store) == {name: record for name, record in expected.items() if name != left}
    (note,) = notes
    assert left in note and "maximum context length" in note


def test_a_full_disk_is_waited_for_by_calls_too_and_nothing_is_paid_twice(store, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(disk, "_SECONDS", 0.05)
    states, asked = [], []

    async def go() -> tuple[RunReport, Solver]:
        class Watching(Silent):
            def show(self, status: Status) -> None:
                states.append(status.state)
                asked.append(served.tally.calls.total())
                if states.count("waiting for disk space") == 4:
                    parts.generator._cache._database.execute("PRAGMA max_page_count = 1000000")

        async with Solver() as served, small_parts(served, tmp_path / "calls", QUICK) as parts:
            parts.generator._cache._database.execute("PRAGMA max_page_count = 9")
            return await run(some_problems(6), parts, store, progress=Watching()), served

    report, served = asyncio.run(go())
    assert states.count("waiting for disk space") >= 4 and states[-1] == ""
    waiting = [calls for calls, state in zip(asked, states, strict=True) if state]
    assert waiting[1] == waiting[3] > 0, "nothing is asked meanwhile"
    assert served.tally.calls.total() == report.usage.calls
    assert report.ended == "done" and by_id(store) == expected


def test_asked_to_stop_while_calls_wait_for_the_disk_a_run_ends_at_once(store, tmp_path):
    stop = Stop()

    class Watching(Silent):
        def show(self, status: Status) -> None:
            if status.state == "waiting for disk space":
                stop.ask()

    async def go() -> RunReport:
        async with Solver() as served, small_parts(served, tmp_path / "calls", QUICK) as parts:
            parts.generator._cache._database.execute("PRAGMA max_page_count = 9")
            return await run(some_problems(6), parts, store, stop=stop, progress=Watching())

    assert asyncio.run(go()).ended == "stopped"


def test_a_full_disk_is_waited_for_and_the_record_kept(store, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(disk, "_SECONDS", 0.05)
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages + 1}")
    states = []

    def make_space(_: Solver, status: Status) -> None:
        states.append(status.state)
        if states.count("waiting for disk space") == 2:
            store._database.execute("PRAGMA max_page_count = 1000000")

    report = ran(store, tmp_path / "calls", during=make_space)
    assert "waiting for disk space" in states and states[-1] == ""
    assert report.ended == "done" and by_id(store) == expected


def test_a_disk_that_stays_full_is_waited_for_until_the_run_is_stopped(store, tmp_path):
    pages = store._database.execute("PRAGMA page_count").fetchone()[0]
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    stop = Stop()
    report = ran(store, tmp_path / "calls", 1, stop=stop, during=lambda _, status: stop.ask() if status.state else None)
    assert (report.ended, report.finished, len(store)) == ("stopped", 0, 0)


def test_a_defect_of_ours_is_raised_and_not_swallowed(store, tmp_path):
    async def go() -> None:
        async with Solver() as served, small_parts(served, settings=QUICK) as parts:
            await run(some_problems(2), replace(parts, theorems=None), store)  # type: ignore[arg-type]

    with pytest.raises(AttributeError):
        asyncio.run(go())


def test_progress_says_how_the_run_stands():
    status = Status(200, kept=20, solved=24, finished=20, under_way=64, began=time.monotonic() - 3600)
    status.usage = Usage(calls=900, cached=100, prompt_tokens=15_100_000, generated_tokens=2_100, in_flight=64)
    stream = StringIO()
    with Lines(stream) as lines:
        lines.show(status)
        lines.show(status)
    first, last = stream.getvalue().splitlines()  # not one for every look, and one at the end
    for said in ("40 of 200 (20%), 64 under way", "60.0%", "900 answered", "100 (10%)", "15.1M read, 2.1k written"):
        assert said in first
    assert "in flight 64" in last and "problems/h 20" in last and "1 h 00 min gone, 8 h 00 min left" in last


def test_progress_is_honest_before_the_first_problem():
    figures = Status(10, began=time.monotonic()).figures()
    assert figures["rewarded so far"] == figures["problems/h"] == "–" and figures["time"].endswith("– left")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0 s"), (59.6, "1 min 00 s"), (3600, "1 h 00 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_a_report_is_plain_data(store, tmp_path):
    assert asdict(ran(store, tmp_path / "calls", 1))["usage"]["calls"] > 0
