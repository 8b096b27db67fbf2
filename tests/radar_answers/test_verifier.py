"""Answers: what is equal, what is not, and what must not stall or end the run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radar_answers import Consensus, Verdict, Verifier, consensus
from radar_answers.forms import are_words, chosen, plain

ENDLESS = "9^{9^{9^9}}"
Check = Callable[..., Verdict]


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def verifier(run: Callable[..., Any]) -> Iterator[Verifier]:
    verifier = Verifier(deadline=20.0)
    yield verifier
    run(verifier.close())


@pytest.fixture
def check(run: Callable[..., Any], verifier: Verifier) -> Check:
    return lambda gold, answer, choices=None: run(verifier.check(gold, answer, choices=choices))


@pytest.mark.parametrize(
    ("gold", "answer", "how"),
    [
        ("42", "42", "literal"),
        ("42", " $42$. ", "literal"),
        (r"\frac{1}{2}", r"\dfrac{1}{2}", "literal"),
        ("(1,2)", r"\left( 1, \; 2 \right)", "literal"),
        ("Monday", r"\text{monday}", "literal"),
        (r"x \in [0, 1]", r"\(x\in[0,1]\)", "literal"),
        ("0.5", r"\frac12", "math"),
        ("3\\sqrt{2}", r"\sqrt{18}", "math"),
        ("1000", "1,000", "math"),
        ("x=5", "5", "math"),
        ("2, 1", "1, 2", "math"),
        (r"(x+1)^2", "x^2+2x+1", "math"),
        ("50", r"50\%", "math"),  # decided: the sign is a unit
        (r"50\%", "50", "math"),
        ("B", r"\textbf{(B)}", "choice"),
        ("(b)", "B. 12", "choice"),
    ],
)
def test_equal_answers_are_right(check: Check, gold: str, answer: str, how: str) -> None:
    assert check(gold, answer) == Verdict(True, how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gold", "answer", "how"),
    [
        ("100", "1", "math"),  # rstrip(".0") made these equal
        ("1", "100", "math"),
        ("1", "1.01", "math"),
        ("10", "1.0", "math"),
        ("1/3", "0.333", "math"),
        ("-1", "1", "math"),
        ("north", "thorn", "literal"),  # a product of the same letters, for math-verify
        ("even", "odd", "literal"),
        ("B", "(C)", "choice"),
        ("B", "C. 12", "choice"),
        ("(a)+1", "(a)+2", "math"),  # what only begins like a letter is no choice
        ("(a)(b)", "(a)(c)", "math"),
        ("A: 5", "A: 6", "math"),
        ("C. 3", "C. 4", "math"),
        ("7", "", "missing"),
        ("7", None, "missing"),
        ("7", r"\frac{", "math"),
        ("7", "\x00\ufffd", "math"),
    ],
)
def test_other_answers_are_wrong(check: Check, gold: str, answer: str | None, how: str) -> None:
    assert check(gold, answer) == Verdict(False, how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [
        ("B", "B", True),
        ("B", "(b)", True),
        ("B", "B. 12", True),
        ("B", r"\text{(B) } 12", True),
        ("B", "12", True),
        ("B", r"\frac{24}{2}", True),
        ("12", "B", True),
        ("24/2", "B", True),
        ("B", "11", False),
        ("B", "C", False),
        ("12", "(A)", False),
        ("B", "99", False),
    ],
)
def test_a_choice_may_be_named_by_letter_or_text(check: Check, gold: str, answer: str, is_right: bool) -> None:
    assert check(gold, answer, ["11", "12", "13"]).is_right is is_right


def test_a_letter_beyond_the_choices_is_no_choice() -> None:
    assert chosen("C", ["one", "two", "three"]) == 2
    assert chosen("D", ["one", "two", "three"]) is None


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_no_normalisation_makes_two_numbers_equal(a: int, b: int) -> None:
    assert (plain(str(a)) == plain(f"${b}$")) == (a == b)
    assert (plain(f"{a}.{abs(b)}") == plain(str(a))) is False


@given(st.text(max_size=60))
def test_normalisation_takes_any_text_and_does_nothing_twice_to_words(text: str) -> None:
    once = plain(text)
    if are_words(once):
        assert plain(once) == once


def test_an_endless_answer_is_undecided_in_time_and_the_next_one_is_judged(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with Verifier(deadline=2.0) as verifier:
            assert (await verifier.check("4", "2+2")).is_right  # the process is up
            began = time.monotonic()
            assert await verifier.check("8", ENDLESS) == Verdict(False, "undecided")
            assert 2.0 <= time.monotonic() - began < 5.0
            assert await verifier.check("6", "3+3") == Verdict(True, "math")
            began = time.monotonic()
            assert (await verifier.check("8", ENDLESS)).how == "undecided"  # remembered: it costs its time once
            assert time.monotonic() - began < 1.0

    run(main())


def test_the_loop_goes_on_while_an_answer_is_judged(run: Callable[..., Any]) -> None:
    async def main() -> int:
        async with Verifier(deadline=1.5) as verifier:
            assert (await verifier.check("4", "2+2")).is_right
            judged, ticks = asyncio.create_task(verifier.check("8", ENDLESS)), 0
            while not judged.done():
                await asyncio.sleep(0.01)
                ticks += 1
            return ticks

    assert run(main()) > 10


def test_a_worker_that_dies_is_replaced_and_a_cancelled_question_mixes_nothing_up(run: Callable[..., Any]) -> None:
    async def main() -> None:
        async with Verifier(deadline=5.0) as verifier:
            assert (await verifier.check("4", "2+2")).is_right
            (process,) = verifier._processes._idle
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            assert (await verifier.check("6", "3+3")).is_right
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await verifier.check("8", ENDLESS)
            assert not (await verifier.check("9", "3+3")).is_right
            assert (await verifier.check("10", "5+5")).is_right
        assert process.returncode is not None

    run(main())


def test_the_judge_is_asked_only_after_all_others_said_no(run: Callable[..., Any]) -> None:
    asked = []

    async def judge(gold: str, answer: str) -> bool | None:
        asked.append((gold, answer))
        return {"four": True, "five": False}.get(answer)

    async def main() -> list[Verdict]:
        async with Verifier(deadline=2.0) as verifier:
            assert (await verifier.check("4", "2+2")).is_right  # the process is up
            pairs = [("4", "4"), ("4", "2+2"), ("B", "(C)"), ("4", None), ("4", "four"), ("4", "five"), ("4", "six")]
            return [await verifier.check(gold, answer, judge=judge) for gold, answer in [*pairs, ("4", ENDLESS)]]

    verdicts = run(main())
    assert asked == [("4", "four"), ("4", "five"), ("4", "six"), ("4", ENDLESS)]
    assert [verdict.is_right for verdict in verdicts] == [True, True, False, False, True, False, False, False]
    assert [verdict.how for verdict in verdicts[-4:]] == ["judge", "judge", "unparsable", "unparsable"]


def test_without_a_gold_answer_the_largest_group_of_equal_answers_stands_in(
    run: Callable[..., Any], verifier: Verifier
) -> None:
    answers = ["3", "1/2", "0.5", None, r"\frac{2}{4}", "3", "7"]
    found = run(consensus(verifier, answers))
    assert found == Consensus("1/2", 3, 7) and found.share == pytest.approx(3 / 7)
    assert run(consensus(verifier, ["8", "9"])) == Consensus("8", 1, 2)  # of equals, the first
    assert run(consensus(verifier, [None, " "])) is None


def test_settings_out_of_range_are_refused() -> None:
    for settings in ({"workers": 0}, {"deadline": 0.0}):
        with pytest.raises(ValueError, match="must be more than 0"):
            Verifier(**settings)  # type: ignore[arg-type]
