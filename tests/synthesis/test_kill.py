"""A run killed at random moments, resumed each time, against a server whose answers repeat."""

import multiprocessing
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from synthesis.run import STORE_FILE, synthesize
from synthesis.settings import GeneratorSettings
from synthesis.store import Store
from tests.synthesis import solver
from tests.synthesis.parts import LiteralVerifier, WordTheorems, content, served, with_tree

KILLS = 20
PROBLEMS = 60


def go_on(folder: Path, url: str, problems: int) -> None:
    """A run in this process, from where the last one was killed to its end."""
    generator = GeneratorSettings(urls=(url,), model="solver", in_flight=24)
    settings = replace(with_tree(rollouts=2, max_depth=3), generator=generator, concurrency=8)
    texts = solver.theorems()
    synthesize(
        solver.problems(problems),
        texts,
        folder,
        settings=settings,
        theorems=WordTheorems(texts),
        verifier=LiteralVerifier(),  # type: ignore[arg-type]
        progress=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_killed_twenty_times_equals_one_that_was_not(tmp_path: Path):
    # A server that has imported all once and forks each run: seconds a kill less.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "radar_llm"])
    moments = random.Random(0)
    with served(load=solver.Load(slots=16, first_token_seconds=0.01)) as server:
        lengths = []
        for _ in range(KILLS):
            process = processes.Process(target=go_on, args=(tmp_path / "killed", server.url, PROBLEMS))
            process.start()
            enough = server.tally.calls.total() + moments.randint(5, 35)
            while server.tally.calls.total() < enough and process.is_alive():
                time.sleep(0.002)
            process.kill()
            process.join()
            assert process.exitcode == -9, "the run was over before it was killed: give it more problems"
            with Store(tmp_path / "killed" / STORE_FILE) as store:
                lengths.append(len(store))
        assert lengths == sorted(lengths) and 0 < lengths[-1] < PROBLEMS
        assert len(set(lengths)) > KILLS // 3, "kills must fall between different problems"
        for name in ("killed", "whole"):
            process = processes.Process(target=go_on, args=(tmp_path / name, server.url, PROBLEMS))
            process.start()
            process.join(120)
            assert process.exitcode == 0
    with Store(tmp_path / "killed" / STORE_FILE) as killed, Store(tmp_path / "whole" / STORE_FILE) as whole:
        assert len(killed) == len(whole) == PROBLEMS
        records = [{record["problem_id"]: content(record) for record in store} for store in (killed, whole)]
    assert records[0] == records[1] and len(records[0]) == PROBLEMS
