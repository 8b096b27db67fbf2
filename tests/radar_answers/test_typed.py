"""Answers of TheoremQA's kinds: what is right, what is wrong, and what is refused as a right answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from radar_answers import Gold, Verdict, Verifier

Check = Callable[[Gold, str | None], Verdict]


@pytest.fixture(scope="module")
def check() -> Iterator[Check]:
    with asyncio.Runner() as runner:
        verifier = Verifier(deadline=20.0)
        yield lambda gold, answer: runner.run(gold.check(answer, verifier))
        runner.run(verifier.close())


RIGHT: list[tuple[Any, str | None, str]] = [
    (1000, "integer", "1,000"),
    (1024, "integer", "2^{10}"),
    (10, "integer", r"$\binom{5}{2}$"),
    (5, "integer", r"x = 5\text{ cm}"),
    (833, "integer", "833.33"),  # the published evaluation rounds
    ("7.0", "integer", "7"),
    (10**30, "integer", str(10**30)),
    (0.333, "float", r"\frac{1}{3}"),
    (3.14, "float", r"\pi"),
    (1.0, "float", "1.04"),  # 4%, and no more
    (1.0, "float", "0.96"),
    (-2.0, "float", "-2.07"),
    ("3", "float", "2.9"),
    (320000.0, "float", r"3.2 \times 10^{5}"),
    (1.5e-3, "float", "1.5e-3"),
    (0.5, "float", r"50\%"),
    (50.0, "float", r"50\%"),
    (0.2, "float", r"P \approx 0.2"),
    (True, "bool", "True"),
    ("True", "bool", r"\text{yes}"),
    (False, "bool", "No, it is false"),
    ("(a)", "option", "A"),
    ("(b)", "option", "(b) converges"),
    ("(c)", "option", "option (c)"),
    ("(f)", "option", "F."),
    ([1, 2.5, 3], "list", "(3, 1, 2.45)"),  # in any order
    ([1, 2], "list of integer", r"\{1, 2\}"),
    ("[0.5, 2]", "list of float", r"x = [\frac{1}{2}, 2]"),
    ([4], "list", "4"),
    ([1, 2], "list", "1 and 2"),
    ([[1, 2], [3, 4]], "list", "[[1, 2], [3, 4]]"),
    ("x^2 + 1", "text", "1 + x^2"),
    ("Eulerian", None, "eulerian"),
    (["a", "b"], "list", '["a", "b"]'),
    (2.5, None, "2.45"),
]


@pytest.mark.parametrize(("value", "kind", "answer"), RIGHT)
def test_right_answers(check: Check, value: Any, kind: str | None, answer: str) -> None:
    assert check(Gold.of(value, kind), answer).is_right


WRONG: list[tuple[Any, str | None, str | None]] = [
    (100, "integer", "1"),
    (1, "integer", "100"),
    (5, "integer", "5.6"),
    (5, "integer", "yes"),
    (5, "integer", "5, 6"),
    (5, "integer", "x"),
    (5, "integer", ""),
    (5, "integer", None),
    (3, "integer", r"\infty"),
    (1.0, "float", "1.041"),
    (1.0, "float", "0.959"),
    (-2.0, "float", "2"),
    (0.0, "float", "0.001"),
    (True, "bool", "False"),
    (True, "bool", "True or False"),
    (True, "bool", "1"),
    ("(a)", "option", "b"),
    ("(a)", "option", "(a) or (b)"),  # where the published one looks for "(a)" anywhere
    ("(a)", "option", "apple"),
    ([1, 2, 3], "list", "[1, 2]"),
    ([1, 2], "list", "[1, 3]"),
    ([1, 2], "list", "[1, x]"),
    ([[1, 2], [3, 4]], "list", "[[3, 4], [1, 2]]"),
    (["a", "b"], "list", '["a", "c"]'),
    ("north", "text", "thorn"),
]


@pytest.mark.parametrize(("value", "kind", "answer"), WRONG)
def test_wrong_answers(check: Check, value: Any, kind: str | None, answer: str | None) -> None:
    assert not check(Gold.of(value, kind), answer).is_right


@pytest.mark.parametrize(
    ("value", "kind", "problem"),
    [
        ("many", "integer", "'many' is no number, and integer answers are"),
        ("1/0", "float", "is no number"),
        ("maybe", "bool", "'maybe' is no truth value: write True or False"),
        ("1, 2", "list", "is no list: write it as JSON does"),
        ([], "list", "is no list"),
        ("7", "complex", "there is no kind of answers 'complex': it is one of integer, float"),
        (" ", None, "the right answer is blank"),
        (None, None, "the right answer is None"),
        ({"a": 1}, None, "a text, number, truth value or list is needed"),
    ],
)
def test_what_is_no_right_answer_is_refused(value: Any, kind: str | None, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Gold.of(value, kind)


def test_an_answer_that_computes_for_ever_is_wrong_in_time_and_the_next_one_is_judged() -> None:
    async def main() -> list[bool]:
        async with Verifier(deadline=2.0) as verifier:
            gold = Gold.of(1024, "integer")
            return [(await gold.check(answer, verifier)).is_right for answer in ("2^{10}", "9^{9^{9^9}}", "4^5")]

    assert asyncio.run(main()) == [True, False, True]
