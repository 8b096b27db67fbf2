"""The world that the solver knows: families of problems, the theorems that each needs, and the truth of each problem.

A problem is a text with numbers; its family computes the answer in a few steps, each from the value before. So a
solution that goes wrong at one step goes on with the wrong value, as solutions do.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Numbers = dict[str, int]


@dataclass(frozen=True)
class Move:
    """One step: what is said, with ``{x}`` for the value before and, last of all, ``{y}`` for the new one."""

    says: str
    value: Callable[[Numbers, int], int]
    theorem: str | None = None


@dataclass(frozen=True)
class Family:
    """Problems of one kind."""

    name: str
    text: str
    ranges: dict[str, range]
    moves: tuple[Move, ...]
    theorems: frozenset[str]


@dataclass(frozen=True)
class Theorem:
    """A theorem of the corpus; what the solver writes about it is there only for those that some family needs."""

    docno: str
    name: str
    text: str
    summary: str
    question: str
    query: str

    @property
    def statement(self) -> str:
        return self.text.partition("\n")[2]


@dataclass(frozen=True)
class Truth:
    """What is true of a problem."""

    family: Family
    numbers: Numbers
    values: tuple[int, ...]  # after each move
    answer: str

    @property
    def theorems(self) -> frozenset[str]:
        """The docnos of all theorems of the corpus that are relevant."""
        return self.family.theorems


def _family(name: str, text: str, ranges: dict[str, range], *moves: Move) -> Family:
    return Family(name, text, ranges, moves, frozenset(move.theorem for move in moves if move.theorem))


def _divisor(x: int) -> int:
    return max(1, abs(x))


FAMILIES = (
    _family(
        "seats",
        "A hall has {n} rows of chairs. The first row has one chair, and each further row has one chair more than the "
        "row before it. All chairs are stacked in piles of {m}. What is the square of the number of chairs left over?",
        {"n": range(12, 90), "m": range(5, 19)},
        Move(
            "The rows have 1, 2, and so on up to {n} chairs, {y} in all.",
            lambda p, x: p["n"] * (p["n"] + 1) // 2,
            "sum-of-integers",
        ),
        Move("Piling up {x} chairs by {m} leaves {y}.", lambda p, x: x % p["m"], "division-with-remainder"),
        Move("The square of {x} is {y}.", lambda p, x: x * x),
    ),
    _family(
        "greetings",
        "At a meeting {n} guests greet each other, every two of them once, and each guest also greets every one of the "
        "{k} hosts. Each greeting takes {m} seconds. How many seconds do all greetings take together?",
        {"n": range(8, 60), "k": range(2, 9), "m": range(2, 7)},
        Move(
            "Among themselves the {n} guests greet {y} times.",
            lambda p, x: p["n"] * (p["n"] - 1) // 2,
            "number-of-pairs",
        ),
        Move(
            "With the hosts it is {x} greetings and {n} times {k} more, {y} in all.",
            lambda p, x: x + p["n"] * p["k"],
            "multiplication-principle",
        ),
        Move("At {m} seconds each, {x} greetings take {y} seconds.", lambda p, x: x * p["m"]),
    ),
    _family(
        "toppings",
        "A stand offers {n} toppings, and any selection of them can be ordered, the empty one included. The owner "
        "tries all selections with at least one topping, {m} on each full day. How many are left for the last day, "
        "which is not full, and what is {k} times that number?",
        {"n": range(4, 12), "m": range(5, 30), "k": range(2, 8)},
        Move("Of {n} toppings there are {y} selections.", lambda p, x: 2 ** p["n"], "size-of-power-set"),
        Move("Without the empty one, the {x} selections become {y}.", lambda p, x: x - 1, "complement-rule"),
        Move(
            "With {m} a day, {x} selections leave {y} for the last day.",
            lambda p, x: x % p["m"],
            "division-with-remainder",
        ),
        Move("And {k} times {x} is {y}.", lambda p, x: x * p["k"]),
    ),
    _family(
        "shares",
        "A number is the product of {a} factors 2 and {b} factors 3. Count its positive divisors other than 1 and the "
        "number itself. What is {k} times that count?",
        {"a": range(2, 14), "b": range(2, 14), "k": range(2, 10)},
        Move(
            "With exponents {a} and {b} the number has {y} divisors.",
            lambda p, x: (p["a"] + 1) * (p["b"] + 1),
            "number-of-divisors",
        ),
        Move("Two of the {x} divisors are not counted, which leaves {y}.", lambda p, x: x - 2, "complement-rule"),
        Move("And {k} times {x} is {y}.", lambda p, x: x * p["k"]),
    ),
    _family(
        "tiles",
        "A floor of {a} by {b} decimetres is covered without cutting by equal square tiles that are as large as "
        "possible. A tile costs {k} coins. How many coins do the tiles cost?",
        {"a": range(24, 120, 6), "b": range(20, 120, 4), "k": range(2, 9)},
        Move(
            "The largest tile has a side of {y} decimetres.",
            lambda p, x: math.gcd(p["a"], p["b"]),
            "euclidean-algorithm",
        ),
        Move(
            "Tiles of side {x} are {y} in number.", lambda p, x: p["a"] * p["b"] // _divisor(x) ** 2, "area-by-scaling"
        ),
        Move("At {k} coins each, {x} tiles cost {y} coins.", lambda p, x: x * p["k"]),
    ),
    _family(
        "fence",
        "A field has three straight edges. Two of them are {a} and {b} metres long and meet at a right angle. The "
        "length of the third is rounded down to whole metres. A fence around the field costs {k} coins a metre. How "
        "many coins does it cost?",
        {"a": range(3, 90, 3), "b": range(4, 120, 4), "k": range(2, 9)},
        Move(
            "The third edge is {y} metres long, rounded down.",
            lambda p, x: math.isqrt(p["a"] ** 2 + p["b"] ** 2),
            "pythagorean-theorem",
        ),
        Move(
            "The edges {a}, {b} and {x} add up to {y} metres.", lambda p, x: p["a"] + p["b"] + x, "perimeter-of-polygon"
        ),
        Move("At {k} coins a metre, {x} metres cost {y} coins.", lambda p, x: x * p["k"]),
    ),
    _family(
        "committees",
        "A club of {n} people elects committees of three. One of the {n} refuses to serve. Each committee that is "
        "still possible meets {k} times. How many meetings are possible?",
        {"n": range(6, 40), "k": range(2, 9)},
        Move(
            "Three of {n} people can be chosen in {y} ways.", lambda p, x: math.comb(p["n"], 3), "combinations-formula"
        ),
        Move(
            "Without the one who refuses, the {x} committees become {y}.",
            lambda p, x: x - math.comb(p["n"] - 1, 2),
            "pascal-rule",
        ),
        Move("With {k} meetings each, {x} committees have {y} meetings.", lambda p, x: x * p["k"]),
    ),
    _family(
        "grains",
        "On the first day one grain is laid down, and on each further day twice as many as on the day before, for {n} "
        "days in all. Then {k} grains are added, and the heap is filled into bags of {m}. How many grains are left?",
        {"n": range(4, 14), "k": range(3, 40), "m": range(7, 40)},
        Move("In {n} days {y} grains are laid down.", lambda p, x: 2 ** p["n"] - 1, "geometric-sum"),
        Move("With {k} more, {x} grains become {y}.", lambda p, x: x + p["k"]),
        Move("Bags of {m} leave of the {x} grains just {y}.", lambda p, x: x % p["m"], "division-with-remainder"),
    ),
    _family(
        "lamps",
        "The houses of a street are numbered from 1 to {n}. Every house whose number is a multiple of {a} or of {b} "
        "gets a lamp. How many houses get no lamp?",
        {"n": range(80, 400), "a": range(3, 8), "b": range(8, 13)},
        Move(
            "The multiples of {a} and of {b}, those of both counted twice, are {y} in number.",
            lambda p, x: p["n"] // p["a"] + p["n"] // p["b"],
            "count-of-multiples",
        ),
        Move(
            "Counted once, the {x} become {y} houses with a lamp.",
            lambda p, x: x - p["n"] // math.lcm(p["a"], p["b"]),
            "inclusion-exclusion",
        ),
        Move("Of all {n} houses, {x} have a lamp and {y} have none.", lambda p, x: p["n"] - x, "complement-rule"),
    ),
    _family(
        "clock",
        "A number has remainder {a} on division by the prime 13 and is multiplied by itself, so that {k} equal factors "
        "stand there. Add {c} to the remainder that the product has on division by 13. What is the sum?",
        {"a": range(2, 13), "k": range(20, 300), "c": range(1, 60)},
        Move(
            "Since 13 is prime, {k} factors leave what {y} factors leave.",
            lambda p, x: p["k"] % 12,
            "fermat-little-theorem",
        ),
        Move("The power of {a} with exponent {x} leaves {y}.", lambda p, x: pow(p["a"], abs(x), 13), "powers-modulo"),
        Move("Adding {c} to {x} gives {y}.", lambda p, x: x + p["c"]),
    ),
)


def problems(n: int, seed: int = 0) -> list[dict[str, str]]:
    """Returns n different problems with ``id``, ``problem`` and ``answer``, the families in turn."""
    draw, made = random.Random(seed), {}
    while len(made) < n:
        family = FAMILIES[len(made) % len(FAMILIES)]
        numbers = {name: draw.choice(values) for name, values in family.ranges.items()}
        text = family.text.format(**numbers)
        if text not in made:
            made[text] = {"id": f"{family.name}-{len(made)}", "problem": text, "answer": _solve(family, numbers).answer}
    return list(made.values())


@cache
def corpus() -> dict[str, Theorem]:
    """All theorems by docno."""
    lines = (Path(__file__).with_name("theorems.jsonl")).read_text(encoding="utf-8").splitlines()
    records = [{"summary": "", "question": "", "query": ""} | json.loads(line) for line in lines]
    return {record["docno"]: Theorem(**record) for record in records}


def theorems() -> dict[str, str]:
    """The texts of the corpus by docno, the file ``theorems.jsonl``: 18 that some family needs and 62 others."""
    return {theorem.docno: theorem.text for theorem in corpus().values()}


def truth(problem: str) -> Truth | None:
    """Returns what is true of a problem; None if it isn't of this world."""
    for family, pattern in _patterns():
        if found := pattern.fullmatch(problem.strip()):
            return _solve(family, {name: int(value) for name, value in found.groupdict().items()})
    return None


def _solve(family: Family, numbers: Numbers) -> Truth:
    values, x = [], 0
    for move in family.moves:
        x = move.value(numbers, x)
        values.append(x)
    return Truth(family, numbers, tuple(values), str(x))


@cache
def _patterns() -> list[tuple[Family, re.Pattern[str]]]:
    patterns = []
    for family in FAMILIES:
        seen: set[str] = set()

        def number(found: re.Match[str], seen: set[str] = seen) -> str:
            name = found[1]
            if name in seen:
                return f"(?P={name})"
            seen.add(name)
            return rf"(?P<{name}>\d+)"

        patterns.append((family, re.compile(re.sub(r"\\\{(\w+)\\\}", number, re.escape(family.text)))))
    return patterns
