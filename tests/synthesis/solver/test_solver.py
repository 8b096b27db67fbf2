"""The reference solver itself: what it takes for true is true, and the same question has the same answer."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest

from pyterrier_radar._llm import prompt as template
from synthesis.actions import (
    Candidates,
    Completion,
    LexicalQuestion,
    Reasoning,
    Reflection,
    ReflectionReason,
    SameAnswer,
    Step,
    Summary,
    TheoremQuestion,
    Thought,
    Unparsable,
    check_question,
)
from synthesis.tree import Kind
from tests.synthesis.solver import Faults, Load, Mind, Solver, problems, theorems, truth
from tests.synthesis.solver.mind import read
from tests.synthesis.solver.world import FAMILIES, corpus


def answer(mind: Mind, prompt: Any, seed: int = 0, choice: Sequence[str] = ()) -> str:
    return mind.answer(read(prompt.messages, seed), choice)


def test_problems_are_different_and_their_truth_is_read_back_from_the_text() -> None:
    made = problems(400)
    assert len({problem["problem"] for problem in made}) == len({problem["id"] for problem in made}) == 400
    assert made[:50] == problems(50)
    for problem in made:
        known = truth(problem["problem"])
        assert known is not None and known.answer == problem["answer"]
        assert known.theorems and known.theorems <= theorems().keys()
    assert truth("What is 2 + 2?") is None


def test_some_truths_worked_by_hand() -> None:
    by_name = {family.name: family for family in FAMILIES}
    seats = by_name["seats"].text.format(n=20, m=9)  # 210 chairs, 3 left over
    lamps = by_name["lamps"].text.format(n=100, a=4, b=10)  # 25 + 10 - 5 lamps
    clock = by_name["clock"].text.format(a=2, k=26, c=5)  # 2^26 is like 2^2
    assert [truth(text).answer for text in (seats, lamps, clock)] == ["9", "70", "9"]  # type: ignore[union-attr]


def test_a_perfect_mind_solves_everything_step_by_step_and_a_poor_one_goes_on_with_its_mistakes() -> None:
    for problem in problems(60):
        steps: list[Step] = []
        reached = None
        while reached is None:
            thought = Thought().parse(answer(Mind(right=1.0), Thought().prompt(problem["problem"], steps)))
            assert isinstance(thought, Reasoning)
            steps.append(Step(Kind.THOUGHT, thought.text))
            reached = thought.answer
        assert reached == problem["answer"]
        rest = Completion().parse(answer(Mind(right=1.0), Completion().prompt(problem["problem"], steps[:1])))
        assert isinstance(rest, Reasoning) and rest.answer == reached
        wrong = [
            Step(Kind.THOUGHT, re.sub(r"(\d+)(\D*)$", lambda found: f"{int(found[1]) + 1}{found[2]}", steps[0].text))
        ]
        after = Thought().parse(answer(Mind(right=1.0), Thought().prompt(problem["problem"], wrong)))
        assert isinstance(after, Reasoning)


def test_a_needed_theorem_makes_a_step_more_likely_right() -> None:
    problem = problems(1)[0]["problem"]
    helpful = [Step(Kind.THEOREM, corpus()["sum-of-integers"].summary)]

    def rights(steps: list[Step]) -> int:
        expected = str(truth(problem).values[0])  # type: ignore[union-attr]
        prompt = Thought().prompt(problem, steps)
        return sum(f" {expected} " in answer(Mind(right=0.5), prompt, seed) for seed in range(200))

    assert 70 < rights([]) < 130 and rights(helpful) > 180


def test_labels_are_the_truth_and_all_prompts_are_answered_in_their_form() -> None:
    mind = Mind()
    for problem in problems(20):
        text = problem["problem"]
        known = truth(text)
        assert known is not None
        for theorem in corpus().values():
            label = answer(mind, Reflection().prompt(text, (), theorem.text), choice=("True", "False"))
            assert (label == "True") == (theorem.docno in known.theorems)
        for given in (known.answer, f"{known.answer} coins", f"{known.answer}1"):
            prompt = SameAnswer().prompt(text, known.answer, given)
            said = answer(mind, prompt, choice=("Same", "Different"))
            assert (said == "Same") == (given != f"{known.answer}1") and answer(mind, prompt) == said
        docno = sorted(known.theorems)[0]
        theorem = corpus()[docno]
        query = TheoremQuestion().parse(answer(mind, TheoremQuestion().prompt(text, (), theorem.text)))
        assert isinstance(query, str)
        check = check_question(query, theorem.text, theorem.name)
        assert not check.leaks_name and check.overlap <= 0.5
        for action, prompt in (
            (Candidates(), Candidates().prompt(text, ())),
            (Summary(), Summary().prompt(theorem.text)),
            (LexicalQuestion(), LexicalQuestion().prompt(theorem.text)),
            (ReflectionReason(), ReflectionReason().prompt(text, (), theorem.text, True)),
        ):
            assert not isinstance(action.parse(answer(mind, prompt)), Unparsable)
    for theorem in corpus().values():
        assert not isinstance(Summary().parse(answer(mind, Summary().prompt(theorem.text))), Unparsable)


def test_the_same_seed_gives_the_same_and_others_differ() -> None:
    prompt = Completion().prompt(problems(2)[1]["problem"], ())
    texts = [answer(Mind(), prompt, seed) for seed in range(20)]
    assert texts == [answer(Mind(), prompt, seed) for seed in range(20)] and len(set(texts)) > 3


def test_faults_come_in_their_share_and_pass() -> None:
    solver = Solver(faults=Faults(refused=0.2, truncated=0.1))
    bodies = [{"messages": [{"content": str(number)}], "seed": 1} for number in range(2000)]
    drawn = [solver._fault(body) for body in bodies]
    assert 340 < drawn.count("refused") < 460 and 150 < drawn.count("truncated") < 250
    refused = next(body for body, fault in zip(bodies, drawn, strict=True) if fault == "refused")
    assert "" in {solver._fault(refused) for _ in range(10)}


def test_slots_bound_what_runs_and_tell_their_busy_share() -> None:
    async def main() -> Solver:
        async with Solver(load=Load(slots=2, first_token_seconds=0.05)) as solver:
            prompt = Thought().prompt(problems(1)[0]["problem"], ())
            body = {"messages": prompt.messages}
            await asyncio.gather(*(solver._generate_in_slot(body) for _ in range(6)))
            return solver

    solver = asyncio.run(main())
    assert solver.tally.most_running == 2 and solver.tally.busy_seconds >= 6 * 0.05


def test_it_runs_as_a_process_and_prints_where() -> None:
    command = [sys.executable, "-m", "tests.synthesis.solver", "--right", "1", "--slots", "3", "--down", "99", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/models", timeout=30) as response:
                assert json.load(response)["data"][0]["id"] == "solver"
        finally:
            process.kill()


def test_grades_are_highest_for_what_a_problem_needs_and_a_query_is_rewritten_into_it() -> None:
    text = problems(1)[0]["problem"]
    for docno, theorem in corpus().items():
        asked = template("rating_general").fill(query=text, document=theorem.text, answer_form="Answer with one line.")
        grade = read(asked.messages, 0)
        assert (answer(Mind(), asked) == "Relevance score: 5") == (docno in truth(text).theorems)  # type: ignore[union-attr]
        assert answer(Mind(), asked, choice=tuple("012345")) == Mind().grade(grade)
        shares = Mind().probabilities(grade)
        assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.__getitem__) == Mind().grade(grade)
    reasoning = answer(Mind(), template("reasoning").fill(query=text))
    assert all(corpus()[docno].statement in reasoning for docno in truth(text).theorems)  # type: ignore[union-attr]
