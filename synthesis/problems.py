"""Problems with their answers: read and checked before any work."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from radar_answers import boxed_answer
from synthesis.lines import HALF_A_PAIR, json_lines

_IDS = ("problem_id", "id", "_id", "qid")
_TEXTS = ("problem", "text", "question", "query")
_CONTROLS = re.compile("[\x00-\x1f\x7f]")


class ProblemError(ValueError):
    """A problem that cannot be worked on; the message says where it stands."""


@dataclass(frozen=True)
class Problem:
    """A problem.

    Attributes:
        id: Names it in the store, in samples and in views.
        text: What is asked.
        answer: The gold answer; None where self-consistency has to do.
        choices: The texts of A, B, … of a multiple-choice problem.
    """

    id: str
    text: str
    answer: str | None = None
    choices: tuple[str, ...] | None = None


def read_problems(
    source: str | Path | Iterable[Problem | Mapping[str, Any]], *, without_answers: bool = False
) -> list[Problem]:
    r"""Returns all problems, checked.

    A record has an id (``problem_id``, ``id``, ``_id`` or ``qid``), a text (``problem``, ``text``, ``question`` or
    ``query``) and an ``answer``, or a ``solution`` whose last ``\boxed{}`` holds it; ``choices`` are optional.

    Args:
        source: A file of JSON lines, gzipped or not, or records, or problems.
        without_answers: Whether problems may lack an answer.

    Raises:
        ProblemError: For a line that is no record, an id or text that is missing, blank or there already, or an answer
            that is missing; it names the line.
        OSError: If the file cannot be read.
    """
    problems: dict[str, Problem] = {}
    places: dict[str, object] = {}
    for place, record in _records(source):
        problem = record if isinstance(record, Problem) else _problem(place, record)
        _check(place, problem, without_answers)
        if problem.answer is not None and not problem.answer.strip():
            problem = replace(problem, answer=None)
        if problem.id in problems:
            raise ProblemError(f"{place}: id {problem.id!r} is there already, at {places[problem.id]}: ids must differ")
        problems[problem.id], places[problem.id] = problem, place
    if not problems:
        raise ProblemError(f"{source if isinstance(source, str | Path) else 'the input'} holds no problem")
    return list(problems.values())


def _records(source: str | Path | Iterable[Any]) -> Iterator[tuple[object, Any]]:
    if isinstance(source, str | Path):
        return json_lines(Path(source), ProblemError)
    return ((f"problem {number}, counted from 0", record) for number, record in enumerate(source))


def _problem(place: object, record: Any) -> Problem:
    if not isinstance(record, Mapping):
        raise ProblemError(f"{place}: a {type(record).__name__}, where a record with an id and a problem is expected")
    identifier = next((record[name] for name in _IDS if record.get(name) is not None), None)
    text = next((record[name] for name in _TEXTS if record.get(name) is not None), None)
    answer, solution, choices = (record.get(name) for name in ("answer", "solution", "choices"))
    if answer is None and isinstance(solution, str):
        answer = boxed_answer(solution)
    if choices is not None and not (isinstance(choices, list | tuple) and all(isinstance(c, str) for c in choices)):
        raise ProblemError(f"{place}: choices must be a list of texts, not {choices!r}")
    # Whether these are texts at all is checked next.
    return Problem(
        _number_as_text(identifier),
        cast(str, text),
        _number_as_text(answer),
        None if choices is None else tuple(choices),
    )


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _check(place: object, problem: Problem, without_answers: bool) -> None:
    if not isinstance(problem.id, str) or not problem.id.strip() or _CONTROLS.search(problem.id):
        raise ProblemError(f"{place}: the id is {problem.id!r}: give one of {', '.join(_IDS)}, without line breaks")
    if not isinstance(problem.text, str) or not problem.text.strip():
        raise ProblemError(f"{place}: problem {problem.id!r} is blank: give its text as one of {', '.join(_TEXTS)}")
    answer = problem.answer
    if answer is not None and not isinstance(answer, str):
        raise ProblemError(f"{place}: the answer of {problem.id!r} is {answer!r}: give a text or a number")
    if (answer is None or not answer.strip()) and not without_answers:
        raise ProblemError(
            f"{place}: problem {problem.id!r} has no answer: give one, drop the problem, or let self-consistency stand "
            "in for it (consensus.samples=8)"
        )
    for text in (problem.id, problem.text, answer or "", *(problem.choices or ())):
        if HALF_A_PAIR.search(text):
            raise ProblemError(f"{place}: {problem.id!r} holds half of a surrogate pair: repair its JSON escapes")
