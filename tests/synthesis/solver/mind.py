"""What the solver writes: it reads which prompt it was given, solves or judges, right or wrong as the draw falls.

Every draw is a hash of the prompt and the seed, so the same request has the same answer whenever it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from importlib import resources

from tests.synthesis.solver.world import Theorem, Truth, corpus, truth

TRUE, FALSE = "True", "False"
SAME, DIFFERENT = "Same", "Different"
GRADES = tuple("012345")
_GARBAGE = (
    "",
    "I am sorry, but I can't help with that.",
    "解けません。",
    "\\boxed{",
    "Step 1: \\frac{1}{",
    '```json\n{"thought": "',
    "Name:\nStatement:",
    "\x00\ufffd \\end{document}",
)


@dataclass(frozen=True)
class Asked:
    """A prompt, taken apart."""

    task: str
    problem: str
    steps: tuple[str, ...]
    theorem: str
    answers: tuple[str, str]  # the right one and the one given, to be compared
    number: int
    documents: str
    draw: Callable[[str], float]  # by a label, at random in [0, 1)


@dataclass(frozen=True)
class Mind:
    """How good the solver is.

    Attributes:
        right: The probability that a step is right.
        right_with_theorem: The same, if the theorem that the step needs is among the known ones.
        insight: The probability that it names a theorem that the next steps need, where there is one.
        label_noise: The probability that it judges a theorem wrongly.
        broken: The probability that an answer is garbage.
    """

    right: float = 0.75
    right_with_theorem: float = 0.97
    insight: float = 0.9
    label_noise: float = 0.0
    broken: float = 0.0

    def answer(self, asked: Asked, choice: Sequence[str] = ()) -> str:
        """Returns what it writes; one of the choices, if there are any."""
        if choice:
            judges: dict[frozenset[str], Callable[[Asked], str]] = {
                frozenset((TRUE, FALSE)): self._relevance,
                frozenset((SAME, DIFFERENT)): self._same_answer,
                frozenset(GRADES): self.grade,
            }
            judge = judges.get(frozenset(choice))
            return judge(asked) if judge else min(choice)
        if asked.draw("broken") < self.broken:
            whole = self._write(asked)
            pick = int(asked.draw("garbage") * (len(_GARBAGE) + 1))
            return _GARBAGE[pick] if pick < len(_GARBAGE) else whole[: len(whole) // 2]
        return self._write(asked)

    def probabilities(self, asked: Asked) -> dict[str, float]:
        """Returns the probability of each judgement: of a theorem, or of the grade of a document."""
        if asked.task == "rating":
            grade, sure = self.grade(asked), 0.5 + 0.5 * asked.draw("probability")
            return {each: sure if each == grade else (1 - sure) / 5 for each in GRADES}
        true = (0.75 if self._relevance(asked) == TRUE else 0.05) + 0.2 * asked.draw("probability")
        return {TRUE: true, FALSE: 1 - true}

    def _write(self, asked: Asked) -> str:
        return getattr(self, f"_{asked.task}")(asked)

    def _thought(self, asked: Asked) -> str:
        return self._steps(asked, most=1)

    def _completion(self, asked: Asked) -> str:
        return self._steps(asked, most=99)

    def _steps(self, asked: Asked, most: int) -> str:
        known = truth(asked.problem)
        if known is None:
            guess = int(asked.draw("guess") * 100)
            return f"Step {asked.number}: This looks like {guess}. The answer is $\\boxed{{{guess}}}$."
        done = [step for step in asked.steps if step.startswith("Step ")]
        helpful = _known_theorems(asked.steps)
        value = _last_number(done[-1]) if done else 0
        moves, written = known.family.moves, []
        first = min(len(done), len(moves) - 1)  # whoever is asked for more repeats the last step
        for place in range(first, min(len(moves), first + most)):
            move = moves[place]
            chance = self.right_with_theorem if move.theorem in helpful else self.right
            y = move.value(known.numbers, value)
            if asked.draw(f"step {place}") >= chance:
                y += 1 + int(asked.draw(f"slip {place}") * 3)
            says = move.says.format(**known.numbers, x=value, y=y)
            if place == len(moves) - 1:
                says += f" The answer is $\\boxed{{{y}}}$."
            written.append(f"Step {asked.number + len(written)}: {says}")
            value = y
        return "\n\n".join(written)

    def _candidates(self, asked: Asked) -> str:
        known, seen = truth(asked.problem), _known_theorems(asked.steps)
        everything = list(corpus().values())
        needed = [corpus()[docno] for docno in _in_order(known) if docno not in seen] if known else []
        named = needed[:1] if asked.draw("insight") < self.insight else []
        if asked.draw("second") < 0.4 or not named:
            other = everything[int(asked.draw("other") * len(everything))]
            named += [other] if other not in named else []
        return "\n\n".join(
            f"Name: {theorem.name}\nStatement: {theorem.statement}\nPreconditions: Those of the statement.\n"
            "Why satisfied: The numbers of the problem meet them.\nSubject: Mathematics"
            for theorem in named
        )

    def _reflection(self, asked: Asked) -> str:
        label = self._relevance(asked)
        return f"{label}, because of what the theorem {'gives' if label == TRUE else 'lacks'}."

    def _relevance(self, asked: Asked) -> str:
        known, theorem = truth(asked.problem), _theorem(asked.theorem)
        is_relevant = known is not None and theorem is not None and theorem.docno in known.theorems
        return TRUE if is_relevant != (asked.draw("label") < self.label_noise) else FALSE

    def _same_answer(self, asked: Asked) -> str:
        """Two answers are the same for it if they begin with the same number."""
        numbers = [re.findall(r"-?\d+", text)[:1] for text in asked.answers]
        return SAME if numbers[0] == numbers[1] else DIFFERENT

    def grade(self, asked: Asked) -> str:
        """5 for a theorem that the problem needs; else by the share of the query's words that the document has."""
        if self._relevance(asked) == TRUE:
            return GRADES[-1]
        words, found = (set(re.findall(r"\w+", text.lower())) for text in (asked.problem, asked.theorem))
        return GRADES[round(4 * len(words & found) / max(1, len(words)))]

    def _rating(self, asked: Asked) -> str:
        return f"Relevance score: {self.grade(asked)}"

    def _reasoning(self, asked: Asked) -> str:
        """What the needed theorems say; of what it doesn't know, a phrase."""
        known = truth(asked.problem)
        needed = [corpus()[docno].statement for docno in _in_order(known)] if known else []
        return " ".join(needed) or f"What is behind this must be found first: {asked.problem}"

    def _answer(self, asked: Asked) -> str:
        """A whole solution: right only if all of its steps are."""
        return self._steps(asked, most=99)

    def _answer_with_documents(self, asked: Asked) -> str:
        """The same; whoever is shown all theorems that the problem needs does every step as with its theorem."""
        known = truth(asked.problem)
        is_shown = known is not None and all(corpus()[docno].text in asked.documents for docno in known.theorems)
        mind = replace(self, right=self.right_with_theorem) if is_shown else self
        return mind._steps(asked, most=99)

    def _reflection_reason(self, asked: Asked) -> str:
        return f"The theorem {asked.theorem.splitlines()[0][:80]!r} is judged by what the problem needs."

    def _summary(self, asked: Asked) -> str:
        theorem = _theorem(asked.theorem)
        if theorem and theorem.summary:
            return theorem.summary
        plain = re.sub(r"\\[a-zA-Z]+|[\\${}]", " ", asked.theorem)
        return " ".join(plain.split())

    def _theorem_question(self, asked: Asked) -> str:
        theorem, a, b = _theorem(asked.theorem), *_two_numbers(asked.problem)
        query = _filled(theorem.query, a, b) if theorem else ""
        return f"Query: {query or f'Something is missing that leads from {a} to {b}, and I wonder what it is.'}"

    def _lexical_question(self, asked: Asked) -> str:
        theorem = _theorem(asked.theorem)
        a, b = 30 + int(asked.draw("a") * 60), 3 + int(asked.draw("b") * 20)
        question = _filled(theorem.question, a, b) if theorem else ""
        words = " ".join(re.sub(r"[\\$]", " ", asked.theorem).split()[:25])
        return f"Question: {question or f'What follows from {words}, for {a} and {b}?'}"


def read(messages: Sequence[dict[str, str]], seed: int) -> Asked:
    """Takes a prompt apart.

    Raises:
        ValueError: If it is none of ours.
    """
    task = _tasks().get(messages[0]["content"])
    if task is None:
        raise ValueError(f"no prompt of ours begins with {messages[0]['content'][:60]!r}")
    text = messages[-1]["content"]
    key = blake2b(f"{task}\0{text}".encode(), digest_size=16).digest()

    def draw(label: str) -> float:
        return int.from_bytes(blake2b(f"{seed} {label}".encode(), key=key, digest_size=6).digest(), "big") / 2**48

    steps = _section(text, "Steps so far").split("\n")
    number = re.search(r"^Write (?:all steps from )?step (\d+)", text, re.MULTILINE)
    return Asked(
        task,
        _section(text, "Problem") or _section(text, "Query"),
        tuple(step for step in steps if step.startswith(("Step ", "Known theorem: "))),
        _section(text, "Theorem") or _section(text, "Document"),
        (_section(text, "Right answer"), _section(text, "Given answer")),
        int(number[1]) if number else 1,
        _section(text, "Documents"),
        draw,
    )


def _section(text: str, heading: str) -> str:
    """Returns what stands under a heading, up to the next one."""
    found = re.search(
        rf"^{heading}:\n(.*?)(?=\n\n(?:Problem|Steps so far|Theorem|Given answer|Document):\n"
        r"|\n\nWrite |\n\nAnswer with |\n\nJudgement:|\Z)",
        text,
        re.DOTALL | re.MULTILINE,
    )
    return found[1].strip() if found else ""


@cache
def _tasks() -> dict[str, str]:
    """The names of the prompt files by their system messages; all families of ratings are one task."""
    tasks = {}
    for room in ("synthesis", "pyterrier_radar"):
        for path in (resources.files(room) / "prompts").iterdir():
            if path.name.endswith(".txt"):
                system = path.read_text(encoding="utf-8").partition("[system]\n")[2].partition("\n[user]\n")[0]
                name = path.name.removesuffix(".txt")
                tasks[system.strip()] = "rating" if name.startswith("rating_") else name
    return tasks


@cache
def _by_text() -> dict[str, Theorem]:
    return {text: theorem for theorem in corpus().values() for text in (theorem.text, theorem.summary) if text}


def _theorem(text: str) -> Theorem | None:
    return _by_text().get(text.strip())


def _known_theorems(steps: Sequence[str]) -> frozenset[str]:
    texts = (step.removeprefix("Known theorem: ") for step in steps if step.startswith("Known theorem: "))
    return frozenset(theorem.docno for text in texts if (theorem := _theorem(text)))


def _in_order(known: Truth) -> list[str]:
    return [move.theorem for move in known.family.moves if move.theorem]


def _last_number(step: str) -> int:
    """The value that a step of ours came to: it stands last."""
    return int(re.findall(r"-?\d+", step)[-1])


def _filled(text: str, a: object, b: object) -> str:
    """The text with numbers in it; ``format`` would trip over LaTeX's braces."""
    return text.replace("{a}", str(a)).replace("{b}", str(b))


def _two_numbers(problem: str) -> tuple[str, str]:
    return (*re.findall(r"\d+", problem), "some", "others")[:2]
