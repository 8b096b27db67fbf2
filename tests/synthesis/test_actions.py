"""Prompts, and parsers of whatever a model may answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthesis.actions
from radar_llm.prompts import Template
from synthesis.actions import (
    Candidate,
    Candidates,
    Completion,
    LexicalQuestion,
    Prompt,
    Reasoning,
    Reflection,
    ReflectionReason,
    Relevance,
    SameAnswer,
    Step,
    Summary,
    TheoremQuestion,
    Thought,
    Unparsable,
    check_question,
    partial_solution,
)
from synthesis.actions._prompts import template
from synthesis.tree import Kind

PROMPTS = sorted((Path(synthesis.actions.__file__).parent.parent / "prompts").glob("*.txt"))

PROBLEM = r"Let $f(x) = \frac{x^{2}}{3}$. Find $f'({{steps}}) \$5 \1 \g<0> {0} %s."
STEPS = [
    Step(Kind.THOUGHT, "First $a$."),
    Step(Kind.QUERY, "Imagined theorem. It was only hoped for."),
    Step(Kind.THEOREM, r"If $\{{problem}}$ then ${x}$."),
    Step(Kind.THOUGHT, "Second."),
]
THEOREM = "[user]\nA \\emph{theorem}: $${{a}_{b}}$$ {{theorem}} [assistant]\nTrue"

ACTIONS: dict[str, tuple[Any, Callable[[str, list[Step], str], Prompt]]] = {
    "thought": (Thought(), lambda problem, steps, theorem: Thought().prompt(problem, steps)),
    "completion": (Completion(), lambda problem, steps, theorem: Completion().prompt(problem, steps)),
    "candidates": (Candidates(), lambda problem, steps, theorem: Candidates().prompt(problem, steps)),
    "reflection": (Reflection(), Reflection().prompt),
    "reflection_reason": (ReflectionReason(), lambda *shown: ReflectionReason().prompt(*shown, is_relevant=False)),
    "same_answer": (SameAnswer(), lambda problem, steps, theorem: SameAnswer().prompt(problem, "4", theorem)),
    "summary": (Summary(), lambda problem, steps, theorem: Summary().prompt(theorem)),
    "theorem_question": (TheoremQuestion(), TheoremQuestion().prompt),
    "lexical_question": (LexicalQuestion(), lambda problem, steps, theorem: LexicalQuestion().prompt(theorem)),
}
each_action = pytest.mark.parametrize("name", ACTIONS)


# --- prompts


def test_every_prompt_file_is_the_prompt_of_an_action() -> None:
    assert [path.stem for path in PROMPTS] == sorted(ACTIONS)


@each_action
def test_only_the_last_message_depends_on_the_problem(name: str) -> None:
    _, prompt = ACTIONS[name]
    one, other = prompt(PROBLEM, STEPS, THEOREM), prompt("Another problem.", [], "Another theorem.")
    assert one.messages[:-1] == other.messages[:-1] != ()
    assert one.messages[-1] != other.messages[-1]
    roles = [message["role"] for message in one.messages]
    assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2 - 1) + ["user"]


@each_action
def test_what_is_put_into_a_prompt_comes_out_as_it_is(name: str) -> None:
    _, prompt = ACTIONS[name]
    last = prompt(PROBLEM, STEPS, THEOREM).messages[-1]["content"]
    if name not in ("summary", "lexical_question"):
        assert PROBLEM in last
    if name not in ("summary", "lexical_question", "same_answer"):
        assert STEPS[2].text in last
    if name not in ("thought", "completion", "candidates"):
        assert THEOREM in last


@each_action
def test_the_examples_of_a_prompt_are_answers_that_its_action_can_read(name: str) -> None:
    action, prompt = ACTIONS[name]
    answers = [m["content"] for m in prompt(PROBLEM, STEPS, THEOREM).messages if m["role"] == "assistant"]
    assert answers and not [answer for answer in answers if isinstance(action.parse(answer), Unparsable)]


@each_action
def test_the_version_of_a_prompt_is_that_of_its_text(name: str) -> None:
    _, prompt = ACTIONS[name]
    text = next(path for path in PROMPTS if path.stem == name).read_text(encoding="utf-8")
    built = prompt(PROBLEM, STEPS, THEOREM)
    assert (built.name, built.version) == (name, Template.of(name, text).version)
    assert Template.of(name, text + " ").version != built.version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Solve {{problem}}", "write messages under"),
        ("[system]\nSolve.\n", "user\\] last"),
        ("[user]\nA\n[assistant]\nB\n", "user\\] last"),
        ("[system]\nSolve {{problem}}\n[user]\n{{problem}}", "stands before the last message"),
    ],
)
def test_a_prompt_file_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Template.of("mine", text)


def test_a_placeholder_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['problem', 'steps'\], not \['problem'\]"):
        template("candidates").fill(problem="x")


def test_a_partial_solution_shows_thoughts_and_theorems_and_no_query() -> None:
    assert partial_solution([Step(Kind.ROOT, "?"), *STEPS]) == (
        "Step 1: First $a$.\nKnown theorem: If $\\{{problem}}$ then ${x}$.\nStep 2: Second."
    )
    assert partial_solution([]) == ""


def test_the_number_of_the_next_step_follows_the_thoughts() -> None:
    assert Thought().prompt(PROBLEM, STEPS).messages[-1]["content"].endswith("Write step 3.")
    assert Completion().prompt(PROBLEM, []).messages[-1]["content"].endswith("from step 1 on.")


def test_the_llmq_prompt_shows_the_retrieved_theorem_and_not_the_imagined_one() -> None:
    # the original handed the candidate theorem to this step
    shown = TheoremQuestion().prompt(PROBLEM, STEPS[:2], "The retrieved one.").messages[-1]["content"]
    assert "The retrieved one." in shown and "only hoped for" not in shown


def test_a_label_is_one_of_two_words_with_probabilities_and_a_completion_has_four_samples() -> None:
    assert Reflection().sampling.choice == ("True", "False") and Reflection().sampling.logprobs > 0
    assert Completion().sampling.samples == 4
    assert (Thought().sampling.temperature, Thought().sampling.top_p, Thought().sampling.top_k) == (0.8, 0.95, 40)


# --- thoughts and completions


@pytest.mark.parametrize(
    ("text", "step", "answer"),
    [
        ("Step 2: We have $x = 3$.", "We have $x = 3$.", None),
        ("**Step 2:** We have $x = 3$.", "We have $x = 3$.", None),
        ("### Step 2\nWe have $x = 3$.", "We have $x = 3$.", None),
        ("Step 2 shows that $x = 3$.", "Step 2 shows that $x = 3$.", None),
        ("So $x = 3$.\n\nStep 3: And so on, \\boxed{9}.", "So $x = 3$.", None),
        ("So $x = 3$.\nStep 1 was right.", "So $x = 3$.\nStep 1 was right.", None),
        (r"Step 2: It is $\boxed{\frac12}$.", r"It is $\boxed{\frac12}$.", r"\frac12"),
        ("因此 $x = 3$。", "因此 $x = 3$。", None),
    ],
)
def test_a_thought_is_one_step_and_terminal_where_it_has_a_box(text: str, step: str, answer: str | None) -> None:
    assert Thought().parse(text) == Reasoning(step, answer)


@pytest.mark.parametrize("text", ["", " \n ", "Step 4:", r"Step 4: it is \boxed{\frac{1}{2}", r"it is \boxed{}"])
def test_an_empty_thought_and_a_broken_box_are_unparsable(text: str) -> None:
    outcome = Thought().parse(text)
    assert isinstance(outcome, Unparsable) and outcome.text == text and outcome.reason


def test_a_completion_needs_an_answer() -> None:
    assert Completion().parse("Step 3: a.\n\nStep 4: \\boxed{4}") == Reasoning("a.\n\nStep 4: \\boxed{4}", "4")
    assert isinstance(Completion().parse("Step 3: so it is 4."), Unparsable)
    assert isinstance(Completion().parse(r"so it is \boxed{4"), Unparsable)


# --- candidate theorems

TWO = r"""Here are two theorems.

**Theorem 1**
- **Name:** Euler's theorem
- **Statement:** If $\gcd(a, n) = 1$ then
  $a^{\varphi(n)} \equiv 1 \pmod{n}$.
- **Preconditions:** $a$ and $n$ are coprime.
- **Why satisfied:** $7$ and $10$ are.
- **Subject:** Number theory

Theorem 2:
1. Name： Chinese remainder theorem
2. Statement: A system of congruences to coprime moduli has one solution.
Precondition: none"""


def test_every_candidate_of_an_answer_is_read() -> None:
    found = Candidates().parse(TWO)
    assert found == (
        Candidate(
            "Euler's theorem",
            r"If $\gcd(a, n) = 1$ then $a^{\varphi(n)} \equiv 1 \pmod{n}$.",
            "$a$ and $n$ are coprime.",
            "$7$ and $10$ are.",
            "Number theory",
        ),
        Candidate(
            "Chinese remainder theorem",
            "A system of congruences to coprime moduli has one solution.",
            "",
            "",
            "",
        ),
    )
    assert found[1].query == ("Chinese remainder theorem. A system of congruences to coprime moduli has one solution.")


def test_a_candidate_that_was_cut_off_does_not_take_the_others_with_it() -> None:
    assert len(Candidates().parse(TWO[: TWO.index("2. Statement")])) == 1


def test_of_an_answer_that_was_cut_off_the_last_candidate_is_dropped() -> None:
    assert Candidates().parse(TWO, is_cut=True) == Candidates().parse(TWO)[:1]
    assert isinstance(Candidates().parse("Name: A\nStatement: If a pri", is_cut=True), Unparsable)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would use the quadratic formula.",
        "Name: <name>\nStatement: <statement>",
        "Name: Euler\nStatement: ...",
        "Name: N/A\nStatement: none",
        "Statement: a statement without a name",
        "名称：勾股定理\n陈述：直角三角形……",
    ],
)
def test_an_answer_without_a_whole_candidate_is_unparsable(text: str) -> None:
    assert isinstance(Candidates().parse(text), Unparsable)


def test_a_field_that_comes_twice_does_not_overwrite_the_first() -> None:
    (candidate,) = Candidates().parse("**Name: A**\nStatement: b\nStatement: c")
    assert (candidate.name, candidate.statement) == ("A", "b")


def test_equal_queries_are_one_candidate_and_a_flood_is_cut() -> None:
    assert len(Candidates().parse("Name: A\nStatement: b\n\nNAME: a\nStatement: B\n")) == 1
    flood = "\n".join(f"Name: A{n}\nStatement: b" for n in range(100))
    assert [candidate.name for candidate in Candidates().parse(flood)] == ["A0", "A1", "A2", "A3", "A4"]


VALUES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=30)
PLAIN = VALUES.map(lambda text: " ".join(text.replace("*", "x").split()))


@given(st.lists(st.tuples(*[PLAIN] * 5), min_size=1, max_size=4))
def test_candidates_written_as_the_prompt_asks_come_back(rows: list[tuple[str, ...]]) -> None:
    written = [
        Candidate(f"Law {n} {name}", f"If {statement}", f"p {preconditions}", f"w {why}", f"s {subject}")
        for n, (name, statement, preconditions, why, subject) in enumerate(rows)
    ]
    text = "\n\n".join(
        f"Name: {c.name}\nStatement: {c.statement}\nPreconditions: {c.preconditions}\nWhy satisfied: {c.why}\n"
        f"Subject: {c.subject}"
        for c in written
    )
    squeezed = tuple(Candidate(*(" ".join(value.split()) for value in vars(c).values())) for c in written)
    assert Candidates().parse(text) == squeezed


# --- reflection, summary


@pytest.mark.parametrize("text", ["True", " true\n", "**True**", '"True"', "True. It gives the radius.", "[True]"])
def test_true_is_read_however_it_is_dressed(text: str) -> None:
    assert Reflection().parse(text) == Relevance(True, None)
    assert Reflection().parse(text.replace("True", "False").replace("true", "false")) == Relevance(False, None)


@pytest.mark.parametrize(
    "text",
    [
        "",  # an empty label stayed empty in the original, and passed for relevant
        "Relevance (True/False): ",  # and labels were read from a form that the model had echoed
        "True or False? False.",
        "True/False",
        "Truely",
        "The theorem is not True here.",
        '{"relevance_label": "True"}',
        "正确",
    ],
)
def test_an_answer_that_is_no_label_is_unparsable_and_never_a_label(text: str) -> None:
    assert isinstance(Reflection().parse(text), Unparsable)


def test_a_rejected_theorem_says_nothing_of_the_next() -> None:
    # in the original all documents after the first rejected one were rejected
    reflection = Reflection()
    labels = [reflection.parse(text) for text in ("True", "False", "True", "", "True")]
    assert [label.is_relevant for label in labels if isinstance(label, Relevance)] == [True, False, True, True]
    first, second = (reflection.prompt(PROBLEM, STEPS, text) for text in ("The first.", "The second."))
    assert "The first." not in second.messages[-1]["content"] and first.messages[:-1] == second.messages[:-1]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ({"True": 0.6, "False": 0.2}, 0.75),
        ({"True": 0.9}, 1.0),
        ({"False": 0.9}, 0.0),
        ({}, None),
        (None, None),
        ({"Maybe": 1.0}, None),
        ({"True": float("nan")}, None),
    ],
)
def test_the_probability_of_true_is_its_share_of_both(probabilities: dict[str, float] | None, expected: float) -> None:
    outcome = Reflection().parse("True", probabilities)
    assert isinstance(outcome, Relevance)
    assert outcome.probability == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("If a prime divides ab,\nit divides a or b.", "If a prime divides ab, it divides a or b."),
        ("Summary: Every $n$ has $n^2 + 1 > 0$.", "Every n has n^2 + 1 > 0."),
        ("Here is the sentence:\n\nEvery map has a fixed point.\n\nI hope this helps!", "Every map has a fixed point."),
        ("每个素数都大于一。", "每个素数都大于一。"),
    ],
)
def test_a_summary_is_one_plain_line(text: str, summary: str) -> None:
    assert Summary().parse(text) == summary
    assert ReflectionReason().parse("Reason: It bears on nothing.") == "It bears on nothing."


@pytest.mark.parametrize("text", ["", "***", "Summary:", r"If \(a\) then b.", r"$\frac{a}{b}$ is odd", "x_{n} grows"])
def test_an_empty_summary_and_one_in_latex_are_unparsable(text: str) -> None:
    assert isinstance(Summary().parse(text), Unparsable)


def test_a_summary_that_was_cut_off_is_unparsable() -> None:
    assert isinstance(Summary().parse("If a prime divides ab, it", is_cut=True), Unparsable)


# --- answers


@pytest.mark.parametrize("text", ["Same", " same\n", "**Same**", '"Same"', "Same. Both are two thirds."])
def test_a_judgement_of_two_answers_is_read_however_it_is_dressed(text: str) -> None:
    assert SameAnswer().parse(text) is True
    assert SameAnswer().parse(text.replace("Same", "Different").replace("same", "different")) is False


@pytest.mark.parametrize("text", ["", "Same or Different?", "Same/Different", "They are the Same.", "True", "相同"])
def test_what_is_no_judgement_is_unparsable(text: str) -> None:
    assert isinstance(SameAnswer().parse(text), Unparsable)


# --- questions


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Query: How high does it reach?", "How high does it reach?"),
        ('How high does\nit "reach"?', 'How high does it "reach"?'),
        ("**Query:** How high?\n\nThis avoids the name.", "How high?"),
        ("Sure!\n\nSearch query:\nHow high?", "How high?"),
        ("Query: a first try\nQuery: How high?", "How high?"),
        ("Question： 有多高？", "有多高？"),
    ],
)
def test_the_question_is_what_its_label_says(text: str, question: str) -> None:
    # the original never took the query out of its field
    assert TheoremQuestion().parse(text) == question
    assert LexicalQuestion().parse(text) == question


@pytest.mark.parametrize("text", ["", "Query:", "Query: ???", "Sure!\n\nHow high?", "Query: " + "how " * 200, "$$$"])
def test_an_answer_without_one_question_is_unparsable(text: str) -> None:
    assert isinstance(TheoremQuestion().parse(text), Unparsable)


PYTHAGORAS = r"In a right triangle the \emph{square} of the hypotenuse equals the sum of the squares of both legs."


def test_overlap_is_the_share_of_content_words_that_the_theorem_has() -> None:
    assert check_question("How far up the wall does a leaning ladder touch?", PYTHAGORAS).overlap == 0.0
    assert check_question("The squares of the legs of a right triangle sum to what?", PYTHAGORAS).overlap == 1.0
    assert check_question("Which triangles have a square shadow?", PYTHAGORAS).overlap == pytest.approx(2 / 3)
    assert check_question(r"How high on the \emph{wall}?", PYTHAGORAS).overlap == 0.0
    assert check_question("Is it so?", PYTHAGORAS).overlap == 1.0


@pytest.mark.parametrize(
    ("question", "name", "leaks"),
    [
        ("Which length follows from the pythagorean theorem?", "Pythagorean Theorem", True),
        ("Can I use Pythagoras here, or his Pythagorean friends?", "Pythagorean Theorem", True),
        ("By what Cauchy found, is the product small?", "Cauchy-Schwarz Inequality", True),
        ("Does Euler’s result apply?", "Euler's Formula", True),
        ("How do I differentiate a chain of maps?", "Chain Rule", False),
        ("How far up does it reach?", "Pythagorean Theorem", False),
        ("How far up does the Pythagorean ladder reach?", "", False),
    ],
)
def test_a_question_must_not_name_its_theorem(question: str, name: str, leaks: bool) -> None:
    assert check_question(question, PYTHAGORAS, name).leaks_name is leaks


def test_the_examples_of_the_llmq_prompt_keep_its_rules() -> None:
    *_, shown, answer, _ = TheoremQuestion().prompt("", [], "").messages
    question = TheoremQuestion().parse(answer["content"])
    assert isinstance(question, str)
    check = check_question(question, shown["content"].split("Theorem:")[1], "Pythagorean theorem")
    assert check.overlap < 0.2 and not check.leaks_name


# --- whatever a model writes

FRAGMENTS = st.sampled_from(
    ["Name:", "Statement:", "\n", "\n\n", "Step 2:", "\\boxed{", "\\fbox{", "{", "}", "\\", "\\\\", "$", "$$", "True"]
    + ["Same", "Different"]
    + ["False", "Query:", "Summary:", "**", "\\frac{1}{2}", "\\begin{align}", "<name>", "…", "：", "定理", "теорема"]
    + ["مبرهنة", "\u202e", "\x00", "\r\n", "🧮", "Theorem 1", "None", "```json", '{"name": "', "\\[", "^{", " "]
)
GARBAGE = st.lists(FRAGMENTS | st.text(max_size=10), max_size=30).map("".join)
TRUNCATED = st.builds(
    lambda text, end: text[:end],
    st.sampled_from([path.read_text("utf-8") for path in PROMPTS] + [TWO]),
    st.integers(0, 4000),
)


@settings(max_examples=400, deadline=None)
@given(GARBAGE | TRUNCATED)
def test_no_answer_makes_a_parser_raise_or_give_an_empty_outcome(text: str) -> None:
    for action, _ in ACTIONS.values():
        match action.parse(text):
            case Unparsable(reason, kept):
                assert reason and kept == text
            case Reasoning(step, answer):
                assert step.strip() and answer != "" and (answer is not None or not isinstance(action, Completion))
            case tuple(candidates):
                assert 1 <= len(candidates) <= 5 and all(c.name and c.statement for c in candidates)
            case str(sentence):
                assert re.search(r"\w", sentence) and "\n" not in sentence
            case Relevance(is_relevant, None):
                assert re.search(r"[^\W_]+", text)[0].lower() == str(is_relevant).lower()
            case bool(is_same):
                assert re.search(r"[^\W_]+", text)[0].lower() == ("same" if is_same else "different")
            case other:
                pytest.fail(f"{type(action).__name__} gave {other!r}")
    check_question(text, text, text)


@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "\n",
        "*",
        "_",
        "\\boxed{",
        "{",
        "}",
        "\\",
        "$",
        "Name:\n",
        "Step 1",
        "Query:\n",
        "1.",
        "theorem ",
        "\\boxed{}}",
    ],
)
def test_no_answer_takes_a_parser_long(unit: str) -> None:
    text = unit * (20_000 // len(unit)) + "x"
    begun = time.process_time()
    for action, _ in ACTIONS.values():
        action.parse(text)
    check_question(text, text, text)
    assert time.process_time() - begun < 2
