"""The theorems collection is whole, consistent, hard for word matching, and nobody else's text."""

import gzip
import importlib.resources
import json
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest

FOLDER = importlib.resources.files("pyterrier_radar") / "collections" / "theorems"
FOREIGN = Path(__file__).resolve().parents[2].parent / "shared" / "data"

MOST_OVERLAP = 0.12  # Jaccard overlap of the content words of a problem and a statement that solves it
COPIED_WORDS = 8  # that many words in a row count as copied

STOP_WORDS = frozenset(
    """a about above after again against all also always am an and any anybody anyone are as at be because
    been before being below between both but by can cannot could did do does doing down during each eight
    either else enough ever every everybody everyone everything few five for four from further had has have
    having he her here hers him his how i if in into is it its itself just least less let like many may me
    might more most much must my neither never nine no nobody none nor not nothing now of off often on once
    one only onto or other others our out over own per same say says see seven shall she should since six so
    some somebody somehow someone something such ten than that the their them themselves then there these
    they this those though three through to together too two under until up upon us very was we were what
    whatever when where whether which while who whoever whole whom whose why will with within without would
    yes yet you your""".split()
)
ENDINGS = ("ations", "ation", "ingly", "ings", "ing", "edly", "ied", "ies", "ed", "ly", "es", "s", "e")


def read_jsonl(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def documents() -> list[dict[str, str]]:
    return read_jsonl("documents.jsonl")


@pytest.fixture(scope="module")
def queries() -> list[dict[str, str]]:
    return read_jsonl("queries.jsonl")


@pytest.fixture(scope="module")
def judgements() -> list[tuple[str, str, str, str]]:
    lines = (FOLDER / "qrels.txt").read_text(encoding="utf-8").splitlines()
    return [(qid, zero, docno, grade) for qid, zero, docno, grade in (line.split(" ") for line in lines)]


def stem(word: str) -> str:
    return next((word[: -len(e)] for e in ENDINGS if word.endswith(e) and len(word) - len(e) >= 3), word)


def content_words(text: str) -> set[str]:
    """The stemmed words of the prose: formulas and stop words are no words."""
    words = re.findall(r"[a-z]{2,}", re.sub(r"\$[^$]*\$", " ", text.lower()))
    return {stem(word) for word in words if word not in STOP_WORDS}


def overlap(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def normalised(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def runs_of_words(text: str) -> set[str]:
    words = normalised(text).split()
    return {" ".join(words[i : i + COPIED_WORDS]) for i in range(len(words) - COPIED_WORDS + 1)}


def test_every_document_and_query_has_its_fields_and_no_others(documents, queries):
    assert {tuple(document) for document in documents} == {("docno", "title", "field", "text")}
    assert {tuple(query) for query in queries} == {("qid", "query")}
    assert all(value and value == value.strip() for row in documents + queries for value in row.values())


def test_the_collection_is_as_large_as_promised(documents, queries):
    assert len(documents) >= 240
    assert len(queries) >= 100
    assert len({document["field"] for document in documents}) >= 10


def test_no_field_is_a_mere_token(documents):
    assert min(Counter(document["field"] for document in documents).values()) >= 15


def test_names_are_unique_and_readable(documents, queries):
    docnos = [document["docno"] for document in documents]
    qids = [query["qid"] for query in queries]
    assert len(set(docnos)) == len(docnos)
    assert all(re.fullmatch(r"[a-z]{2}(-[a-z0-9]+)+", docno) for docno in docnos)
    assert qids == [f"p{number:03d}" for number in range(1, len(qids) + 1)]


def test_judgements_name_existing_queries_and_documents_once_each(documents, queries, judgements):
    pairs = [(qid, docno) for qid, _, docno, _ in judgements]
    assert len(set(pairs)) == len(pairs)
    assert {docno for _, docno in pairs} <= {document["docno"] for document in documents}
    assert {qid for qid, _ in pairs} <= {query["qid"] for query in queries}
    assert {zero for _, zero, _, _ in judgements} == {"0"}
    assert {grade for _, _, _, grade in judgements} == {"1", "2"}


def test_every_query_has_a_document_that_solves_it(queries, judgements):
    solved = {qid for qid, _, _, grade in judgements if grade == "2"}
    assert solved == {query["qid"] for query in queries}


def test_several_documents_are_relevant_to_many_queries(queries, judgements):
    relevant = Counter(qid for qid, _, _, _ in judgements)
    assert sum(count > 1 for count in relevant.values()) >= len(queries) // 4
    assert max(relevant.values()) <= 6


def test_at_least_a_quarter_of_the_documents_are_distractors(documents, judgements):
    relevant = {docno for _, _, docno, _ in judgements}
    assert len(documents) - len(relevant) >= len(documents) / 4


def test_texts_are_plain_ascii_with_closed_formulas(documents, queries):
    for row in documents + queries:
        for value in row.values():
            assert value.isascii() and value.isprintable(), value
            assert value.count("$") % 2 == 0, value
            assert value.count("{") - value.count(r"\{") == value.count("}") - value.count(r"\}"), value


def test_statements_are_short_sentences_and_problems_ask_a_question(documents, queries):
    for document in documents:
        assert document["text"].endswith("."), document["docno"]
        assert 8 <= len(document["text"].split()) <= 90, document["docno"]
    for query in queries:
        assert "?" in query["query"], query["qid"]
        assert 12 <= len(query["query"].split()) <= 90, query["qid"]


def test_no_two_texts_are_near_duplicates(documents, queries):
    for rows, name, text in ((documents, "docno", "text"), (queries, "qid", "query")):
        words = {row[name]: content_words(row[text]) for row in rows}
        for first, second in combinations(words, 2):
            assert overlap(words[first], words[second]) < 0.75, (first, second)


def test_a_problem_shares_few_words_with_what_solves_it(documents, queries, judgements):
    statements = {document["docno"]: content_words(document["text"]) for document in documents}
    problems = {query["qid"]: content_words(query["query"]) for query in queries}
    shared = {(q, d): overlap(problems[q], statements[d]) for q, _, d, _ in judgements}
    assert {pair: value for pair, value in shared.items() if value > MOST_OVERLAP} == {}
    assert sum(shared.values()) / len(shared) < MOST_OVERLAP / 2


def test_no_problem_contains_the_title_of_its_theorem(documents, queries, judgements):
    titles = {document["docno"]: normalised(document["title"]) for document in documents}
    problems = {query["qid"]: normalised(query["query"]) for query in queries}
    assert [(qid, docno) for qid, _, docno, _ in judgements if titles[docno] in problems[qid]] == []


def test_no_problem_names_a_person_whom_a_theorem_is_named_after(documents, queries):
    possessive_or_later_capital = r"[A-Z][a-z]{3,}(?='|-[A-Z])|(?<=[ -])[A-Z][a-z]{3,}"
    names = {name for document in documents for name in re.findall(possessive_or_later_capital, document["title"])}
    assert {"Euler", "Kolmogorov", "Shannon"} <= names
    for query in queries:
        assert not names & set(re.findall(r"[A-Z][a-z]{3,}", query["query"])), query["qid"]


@pytest.mark.parametrize(
    "source",
    [
        "math/problems.jsonl.gz",
        "planetmath/corpus.jsonl.gz",
        "stacks/corpus.jsonl.gz",
        "bright/aops.topics.jsonl",
    ],
)
def test_no_eight_words_in_a_row_come_from(source, documents, queries):
    path = FOREIGN / source
    if not path.exists():
        pytest.skip(f"{path} is absent: nothing to compare the collection's sentences with")
    ours: dict[str, list[str]] = defaultdict(list)
    for name, text in [(d["docno"], d["text"]) for d in documents] + [(q["qid"], q["query"]) for q in queries]:
        for run in runs_of_words(text):
            ours[run].append(name)
    copied = set()
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            for value in json.loads(line).values():
                if isinstance(value, str):
                    copied |= {(name, run) for run in runs_of_words(value) & ours.keys() for name in ours[run]}
    assert copied == set()
