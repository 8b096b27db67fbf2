"""Decontamination: what is found, what is not, and what the report says."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesis.decontaminate import EvaluationQueries, decontaminate
from synthesis.similarity import NearDuplicates, jaccard, shingles, words

DATA = Path(os.environ.get("RADAR_DATA", Path(__file__).parents[3] / "shared" / "data"))
QUESTION = "The sum of $49$ consecutive integers is $7^5$. What is their median value among all of them?"


def _against(*texts: str, threshold: float = 0.5) -> EvaluationQueries:
    return EvaluationQueries([("eval.jsonl", f"e{n}", text) for n, text in enumerate(texts)], threshold)


@pytest.mark.parametrize(
    "variant",
    [
        QUESTION,
        QUESTION.upper(),
        QUESTION.replace("$", "").replace(" ", "\n  "),
        QUESTION + "\n$\\text {(A)}\\ 7 \\qquad \\text {(B)}\\ 7^2\\qquad \\text {(C)}\\ 7^3$",
        QUESTION + "\n[asy] draw((0,0)--(1,1)); [/asy]",
    ],
)
def test_a_query_is_found_whatever_its_case_spacing_layout_choices_and_figure(variant: str) -> None:
    for train, evaluation in [(QUESTION, variant), (variant, QUESTION)]:
        report = decontaminate([("p1", train)], _against("Another question entirely.", evaluation))
        (overlap,) = report.overlaps
        assert (overlap.id, overlap.query_id, overlap.how, overlap.similarity) == ("p1", "e1", "exact", 1.0)


def test_a_near_duplicate_is_reported_with_its_pair_and_their_exact_jaccard_similarity() -> None:
    near = QUESTION.replace("median", "middle")
    report = decontaminate([("far", "How many primes lie below one hundred?"), ("near", near)], _against(QUESTION))
    (overlap,) = report.overlaps
    assert report.ids == {"near"} and report.checked == 2
    assert (overlap.how, overlap.text, overlap.query) == ("near", near, QUESTION)
    assert overlap.similarity == pytest.approx(jaccard(shingles(near), shingles(QUESTION)), abs=1e-4)
    assert 0.5 < overlap.similarity < 1
    assert json.loads(json.dumps(report.as_json()))["removed"][0]["query_id"] == "e0"


def test_the_threshold_decides() -> None:
    near = QUESTION.replace("median", "middle")
    assert not decontaminate([("near", near)], _against(QUESTION, threshold=0.95)).overlaps


def test_the_most_similar_query_is_the_one_reported() -> None:
    near = QUESTION.replace("median", "middle")
    other = near.replace("consecutive", "successive")
    assert _against(other, near).find("p", QUESTION).query_id == "e1"  # type: ignore[union-attr]


def test_texts_that_are_only_choices_or_only_punctuation_do_not_match_everything() -> None:
    against = _against("(A) one (B) two (C) three", "…", QUESTION)
    assert against.find("p", "(A) four (B) five (C) six") is None
    assert against.find("p", "?!") is None
    assert against.find("p", QUESTION).query_id == "e2"  # type: ignore[union-attr]


def test_queries_are_read_from_jsonl_and_tsv_gzipped_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"qid": "a1", "query": "first one here"}\n\n{"_id": 7, "title": "second one"}\n')
    with gzip.open(tmp_path / "b.tsv.gz", "wt", encoding="utf-8") as file:
        file.write('b1\tthe "third\n')
    against = EvaluationQueries.from_files([tmp_path / "a.jsonl", tmp_path / "b.tsv.gz"])
    assert against.sources == {"a.jsonl": 2, "b.tsv.gz": 1}
    assert against.find("p", "Second one!").query_id == "7"  # type: ignore[union-attr]
    assert against.find("p", "the third").source == "b.tsv.gz"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", "{\n"), ("a.jsonl", "[1]\n"), ("a.jsonl", '{"qid": "1"}\n'), ("a.tsv", "only-one-field\n")],
)
def test_a_broken_line_is_named_by_file_and_number(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}:1: "):
        EvaluationQueries.from_files([tmp_path / name])


def test_damaged_gzip_and_an_empty_list_are_said(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"query": "' + os.urandom(200).hex().encode() + b'"}\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.jsonl.gz"):
        EvaluationQueries.from_files([tmp_path / "cut.jsonl.gz"])
    with pytest.raises(ValueError, match="no evaluation query"):
        EvaluationQueries([])
    with pytest.raises(ValueError, match="threshold"):
        _against(QUESTION, threshold=0)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_the_same_as_itself_and_never_breaks_the_comparison(text: str) -> None:
    assert not words(text) or jaccard(shingles(text), shingles(text)) == 1.0
    near = NearDuplicates(0.9)
    near.add("key", text)
    assert near.find(text) == (("key", 1.0) if words(text) else None)
    assert near.find(text, group="another") is None


def test_cjk_text_is_compared_by_characters() -> None:
    assert words("求最大值 of f") == ["求", "最", "大", "值", "of", "f"]


def test_the_known_overlap_of_bright_aops_and_math_train_is_found_and_nothing_else() -> None:
    """39 of the 111 AoPS queries are MATH-train problems, by their ids (SPEC §4, Leakage)."""
    topics, problems = DATA / "bright" / "aops.topics.jsonl", DATA / "math" / "problems.jsonl.gz"
    if not (topics.is_file() and problems.is_file()):
        pytest.skip(f"no {topics} or {problems}: the known overlap of AoPS and MATH is NOT checked")
    with gzip.open(problems, "rt", encoding="utf-8") as file:
        texts = [(one["problem_id"], one["problem"]) for one in map(json.loads, file)]
    report = decontaminate(texts, EvaluationQueries.from_files([topics]))
    known = {one["qid"] for one in map(json.loads, topics.open(encoding="utf-8")) if "math_train" in one["qid"]}
    assert len(known) == 39 and report.checked == 7500
    assert {overlap.query_id for overlap in report.overlaps} == known
    assert len(report.overlaps) == 40  # one query is two problems
    assert sum(overlap.how == "exact" for overlap in report.overlaps) == 37
