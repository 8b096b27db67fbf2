"""Whole runs against a server that does what servers do: each ends, and nothing that went wrong is in a record."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radar_answers import Verifier
from synthesis.engine import RunReport
from synthesis.run import STORE_FILE, synthesize
from synthesis.settings import GeneratorSettings, VerifierSettings
from synthesis.store import Record, Store
from tests.synthesis import solver
from tests.synthesis.parts import LiteralVerifier, WordTheorems, content, served, with_tree

ENDLESS = "9^{9^{9^9}}"
SMALL = replace(with_tree(rollouts=2, max_depth=3), concurrency=12, verifier=VerifierSettings(deadline=1.0))


def ran(
    server: solver.Solver, folder: Path, problems: int, verifier: Verifier | None = None, **generator: Any
) -> tuple[RunReport, dict[str, Record]]:
    """A run of the first problems of the world, and its records by problem."""
    settings = replace(SMALL, generator=GeneratorSettings((server.url,), "solver", **generator))
    report = synthesize(
        solver.problems(problems),
        solver.theorems(),
        folder,
        settings=settings,
        theorems=WordTheorems(),
        verifier=verifier,
        progress=False,
    )
    with Store(folder / STORE_FILE) as store:
        return report, {record["problem_id"]: record for record in store}


def ran_literally(*arguments: Any, **generator: Any) -> tuple[RunReport, dict[str, Record]]:
    return ran(*arguments, LiteralVerifier(), **generator)  # type: ignore[arg-type]


def assert_equal(found: dict[str, Record], expected: dict[str, Record]) -> None:
    assert {name: content(record) for name, record in found.items()} == {
        name: content(record) for name, record in expected.items()
    }


def test_storms_hangs_disconnects_torn_answers_and_an_outage_change_no_record(tmp_path: Path) -> None:
    faults = solver.Faults(
        refused=0.08,
        errors=0.04,
        hangs=0.01,
        hang_seconds=600,
        disconnects=0.04,
        truncated=0.04,
        storm=(0.5, 1.5),
        down=(2.5, 3.5),
    )
    with served() as server:
        _, expected = ran_literally(server, tmp_path / "sound", 24)
    with served(load=solver.Load(slots=16, first_token_seconds=0.05), faults=faults) as server:
        report, found = ran_literally(server, tmp_path / "faulty", 24, timeout=5.0)
    assert (report.finished, report.left, report.usage.failed) == (24, 0, 0)
    assert server.tally.statuses[429] > 30 and server.tally.statuses[500] > 5 and server.tally.cancelled > 3
    assert report.usage.retried > 60
    assert_equal(found, expected)


def test_a_server_that_goes_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    with served() as server:
        _, expected = ran_literally(server, tmp_path / "sound", 12)
    with ThreadPoolExecutor(1) as pool:
        with served(load=solver.Load(slots=4, first_token_seconds=0.05)) as first:
            going = pool.submit(ran_literally, first, tmp_path / "interrupted", 12)
            while first.tally.calls.total() < 40:
                time.sleep(0.01)
        time.sleep(1.5)  # nobody listens at the port
        assert not going.done()
        with served(port=first.port) as second:
            report, found = going.result(timeout=120)
    assert (report.finished, report.usage.failed) == (12, 0) and report.usage.retried > 0
    assert second.tally.calls.total() > 40
    assert_equal(found, expected)


def test_an_endpoint_without_choices_and_probabilities_judges_in_words_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lacks = frozenset({"structured_outputs", "logprobs"})
    with served(lacks=lacks) as server, caplog.at_level(logging.WARNING, "synthesis"):
        report, records = ran_literally(server, tmp_path, 6)
    assert report.finished == 6
    judged = [
        (hit, solver.truth(record["problem"]))
        for record in records.values()
        for node in record["nodes"]
        for hit in node["retrieved"] or ()
        if hit["label"] != "on_path"
    ]
    assert {hit["label"] for hit, _ in judged} == {"relevant", "irrelevant"}
    for hit, known in judged:
        assert known is not None and hit["probability"] is None
        assert (hit["label"] == "relevant") == (hit["docno"] in known.theorems)
    said = Counter(record.getMessage() for record in caplog.records)
    assert set(said.values()) == {1} and len(said) == 2
    assert any("log-probabilities" in message for message in said) and any("choices" in message for message in said)


def test_an_answer_without_end_costs_its_deadline_and_stalls_nothing(tmp_path: Path) -> None:
    class Endless(solver.Mind):
        def _completion(self, asked: Any) -> str:
            return f"It is $\\boxed{{{ENDLESS}}}$." if asked.draw("endless") < 0.5 else super()._completion(asked)

    with served(Endless()) as server:
        report, records = ran(server, tmp_path, 4)
    assert report.finished == 4 and report.solved > 0
    terminals = [node for record in records.values() for node in record["nodes"] if node["is_terminal"]]
    endless = [node for node in terminals if node["answer"] == ENDLESS]
    assert endless and all(node["verdict"] == {"is_right": False, "how": "undecided"} for node in endless)
    assert any(node["reward"] == 1.0 for node in terminals)
