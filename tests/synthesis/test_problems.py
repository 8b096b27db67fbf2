"""Problems are checked, each with its place, before any work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthesis.problems import Problem, ProblemError, read_problems

GOOD = {"id": "a", "problem": "1 + 1?", "answer": "2"}


def written(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_records_of_the_usual_shapes_are_read(tmp_path: Path):
    path = written(
        tmp_path / "problems.jsonl",
        {"problem_id": "math-1", "problem": "What?", "answer": "\\frac{1}{2}"},
        "",
        {"qid": 7, "question": "How many?", "answer": 12},
        {"id": "n", "problem": "And?", "solution": "It is \\boxed{3}, or rather \\boxed{\\sqrt{4}}."},
        {"id": "c", "text": "Which?", "answer": "B", "choices": ["one", "two"]},
    )
    assert read_problems(path) == [
        Problem("math-1", "What?", "\\frac{1}{2}"),
        Problem("7", "How many?", "12"),
        Problem("n", "And?", "\\sqrt{4}"),
        Problem("c", "Which?", "B", ("one", "two")),
    ]
    zipped = tmp_path / "problems.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert read_problems(zipped) == read_problems(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "b", "problem": "', "problems.jsonl:2: not JSON"),
        ("[1]", "problems.jsonl:2: a list"),
        ({"problem": "?", "answer": "1"}, "problems.jsonl:2: the id is None"),
        ({"id": "x\ny", "problem": "?", "answer": "1"}, "problems.jsonl:2: the id is"),
        ({"id": "b", "problem": " ", "answer": "1"}, "problems.jsonl:2: problem 'b' is blank"),
        ({"id": "b", "answer": "1"}, "problems.jsonl:2: problem 'b' is blank"),
        ({"id": "b", "problem": "?"}, "problems.jsonl:2: problem 'b' has no answer"),
        ({"id": "b", "problem": "?", "answer": " "}, "problems.jsonl:2: problem 'b' has no answer"),
        ({"id": "b", "problem": "?", "answer": ["1"]}, "problems.jsonl:2: the answer of 'b' is ['1']"),
        ({"id": "a", "problem": "?", "answer": "1"}, "problems.jsonl:2: id 'a' is there already, at"),
        ({"id": "b", "problem": "?", "answer": "1", "choices": "AB"}, "problems.jsonl:2: choices must be a list"),
        ('{"id": "b", "problem": "\\ud800", "answer": "1"}', "problems.jsonl:2: 'b' holds half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: object, said: str):
    with pytest.raises(ProblemError) as caught:
        read_problems(written(tmp_path / "problems.jsonl", GOOD, line))
    assert said in str(caught.value)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path):
    (tmp_path / "problems.jsonl").write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(ProblemError, match="problems.jsonl:1: not JSON in UTF-8"):
        read_problems(tmp_path / "problems.jsonl")


def test_answers_may_lack_where_self_consistency_stands_in_for_them():
    with pytest.raises(ProblemError, match="consensus.samples=8"):
        read_problems([{"id": "a", "problem": "?"}])
    for record in ({"id": "a", "problem": "?"}, {"id": "a", "problem": "?", "answer": " "}):
        assert read_problems([record], without_answers=True) == [Problem("a", "?")]


def test_no_problem_at_all_is_an_error(tmp_path: Path):
    with pytest.raises(ProblemError, match="holds no problem"):
        read_problems(written(tmp_path / "empty.jsonl", ""))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["id", "problem", "answer", "solution", "choices", "x"]), json_values))
def test_any_record_is_a_problem_or_a_named_error(record: dict[str, Any]):
    try:
        (problem,) = read_problems([record])
    except ProblemError as error:
        assert str(error).startswith("problem 0")
    else:
        assert problem.id.strip() and problem.text.strip() and problem.answer and problem.answer.strip()
