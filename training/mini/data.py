"""The training data of radar-mini, put together from two public corpora and problems written for it.

Four kinds of examples, so that what is learnt is not one corpus' habit: a statement and the statements its proof
refers to (Stacks project); a problem and the theorem that solves it (problems of our own over PlanetMath); a title
and the text below it (PlanetMath); some of a text's rarer words and the text (both). Held out: the Stacks chapters of
``dev``, and a seventh of PlanetMath's documents with all their problems and titles.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data import Example, write_examples
from training.data.records import read_records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHINGLE = 8
"""Words in a row that two texts must share to count as near-duplicates."""
KINDS = ("stacks", "problems", "titles", "keywords")
_BEGINNING = (350, 100)
"""The most characters, and tokens, of a query that the reranker is trained on."""
BODY = "#body"
"""Ends the docno of a PlanetMath text without its title."""
_KEYWORDS = (3, 8)
"""The fewest and the most words of a keyword query; a text with no more rarer words than the fewest has none."""
_RARE = (3, 0.05)
"""A rarer word: in at least this many texts, and at most this share of them."""


def build(stacks: Path, planetmath: Path, output: Path, *, evaluation_texts: Iterable[str] = ()) -> dict[str, int]:
    """Writes documents, examples and held-out queries with judgements.

    Args:
        stacks: Folder with ``corpus.jsonl.gz`` (docno, text), ``train.jsonl.gz`` and ``dev.jsonl.gz`` (qid, query,
            positives).
        planetmath: Folder with ``corpus.jsonl.gz`` (docno, title, text).
        output: Folder to write to: ``documents.jsonl``, ``examples-*.jsonl``, ``dev-*.queries.jsonl``,
            ``dev-*.qrels.txt``, ``dev-*.documents.jsonl``.
        evaluation_texts: Queries of evaluation sets; an example whose query shares eight words in a row with one of
            them is left out.

    Returns:
        How many examples of each kind, and how many were left out.
    """
    output.mkdir(parents=True, exist_ok=True)
    theorems = {r["docno"]: r["text"] for r in _read(stacks / "corpus.jsonl.gz") if r["text"].strip()}
    titled = {r["docno"]: r for r in _read(planetmath / "corpus.jsonl.gz") if r["text"].strip()}
    encyclopaedia = {docno: f"{r['title']} {r['text']}".strip() for docno, r in titled.items()}
    bodies = {docno + BODY: r["text"] for docno, r in titled.items()}
    _write_documents(output / "documents.jsonl", theorems | encyclopaedia | bodies)

    problems = [json.loads(line) for line in files("training.mini").joinpath("problems.jsonl").read_text().splitlines()]
    problems = [(f"problem-{n}", p["problem"], p["docno"]) for n, p in enumerate(problems) if p["docno"] in titled]
    kinds = {
        "stacks": list(_proof_references(stacks / "train.jsonl.gz", theorems)),
        "problems": [
            # Both forms of a document are met: with its title and without.
            Example(qid, problem, "question", docno + BODY * (n % 2), (), (docno + BODY * (1 - n % 2),), {})
            for n, (qid, problem, docno) in enumerate(problems)
            if not held_out(docno)
        ],
        "titles": [
            Example(f"title-{docno}", record["title"], "title", docno + BODY, (), (docno,), {})
            for docno, record in titled.items()
            if record["title"].strip() and not held_out(docno)
        ],
    }
    trained = [record["qid"] for record in _read(stacks / "train.jsonl.gz") if record["qid"] in theorems]
    trained += [docno for docno in encyclopaedia if not held_out(docno)]
    texts = theorems | encyclopaedia
    kinds["keywords"] = list(_keywords({docno: texts[docno] for docno in trained}, bodies))
    seen = {shingle for text in evaluation_texts for shingle in _shingles(text)}
    counts = {"left out": 0}
    for kind, examples in kinds.items():
        clean = [example for example in examples if seen.isdisjoint(_shingles(example.query))]
        write_examples(output / f"examples-{kind}.jsonl", clean)
        counts[kind] = len(clean)
        counts["left out"] += len(examples) - len(clean)

    dev = {r["qid"]: (r["query"], _known(r, theorems)) for r in _read(stacks / "dev.jsonl.gz")}
    _write_dev(output, "stacks", {qid: d for qid, d in dev.items() if d[1]}, theorems)
    dev = {qid: (problem, [docno]) for qid, problem, docno in problems if held_out(docno)}
    _write_dev(output, "problems", dev, encyclopaedia)
    return counts


def read_dev(data: Path, name: str) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Reads a held-out set that :func:`build` wrote.

    Returns:
        Texts by docno, queries by qid, judgements by qid and docno.
    """
    records = {kind: _read(data / f"dev-{name}.{kind}.jsonl") for kind in ("documents", "queries")}
    qrels: dict[str, dict[str, int]] = {}
    for line in (data / f"dev-{name}.qrels.txt").read_text(encoding="utf-8").splitlines():
        qid, _, docno, grade = line.split()
        qrels.setdefault(qid, {})[docno] = int(grade)
    documents = {record["docno"]: record["text"] for record in records["documents"]}
    return documents, {record["qid"]: record["query"] for record in records["queries"]}, qrels


def read_evaluation_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Reads what is not to be trained on: every string of JSONL records, every cell of CSV rows, every line of text."""
    for path in paths:
        if path.suffix == ".jsonl":
            yield from (value for record in _read(path) for value in record.values() if isinstance(value, str))
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                yield from (cell for row in csv.reader(file) for cell in row)
        else:
            yield from path.read_text(encoding="utf-8").splitlines()


def beginning(query: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Cuts a query that would leave a document no room in the pairs that the reranker is trained on."""
    characters, tokens = _BEGINNING
    query = query[:characters].strip()
    while len(tokenizer(query, add_special_tokens=False)["input_ids"]) > tokens:
        query = query[: int(len(query) * 0.85)].strip()
    return query


def held_out(docno: str) -> bool:
    """Whether a PlanetMath document, with its problems and its title, is kept for evaluation: one in seven."""
    return int(hashlib.sha256(docno.encode()).hexdigest(), 16) % 7 == 0


def _proof_references(path: Path, theorems: Mapping[str, str]) -> Iterator[Example]:
    for record in _read(path):
        positives = _known(record, theorems)
        for positive in positives:
            others = tuple(p for p in positives if p != positive)
            yield Example(record["qid"], record["query"], "statement", positive, (), others, {})


def _keywords(texts: Mapping[str, str], bodies: Mapping[str, str]) -> Iterator[Example]:
    """A keyword query for every text that has rarer words enough; of these, the rarest are drawn most often."""
    words = {docno: list(dict.fromkeys(_plain_words(text))) for docno, text in texts.items()}
    frequency = Counter(word for distinct in words.values() for word in distinct)
    fewest, share = _RARE
    for docno, distinct in words.items():
        rare = [word for word in distinct if fewest <= frequency[word] <= share * len(texts)]
        if len(rare) <= _KEYWORDS[0]:
            continue
        rng = random.Random(docno)
        how_many = rng.randint(*_KEYWORDS)
        # Drawn without replacement, each in proportion to its weight (Efraimidis & Spirakis, 2006).
        lots = {word: rng.random() ** (1 / math.log(len(texts) / frequency[word])) for word in rare}
        drawn = sorted(rare, key=lots.__getitem__, reverse=True)[:how_many]
        query = " ".join(word for word in rare if word in drawn)
        others = (docno + BODY,) if docno + BODY in bodies else ()
        yield Example(f"keywords-{docno}", query, "keywords", docno, (), others, {})


def _plain_words(text: str) -> list[str]:
    """Words of three letters or more, without LaTeX's commands."""
    return re.findall(r"[a-z]{3,}", re.sub(r"\\[a-zA-Z]+", " ", text.lower()))


def _known(record: Mapping[str, Any], theorems: Mapping[str, str]) -> list[str]:
    """The positives of a record that the corpus holds, without the statement itself."""
    return [p for p in record["positives"] if p in theorems and p != record["qid"]]


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1))} if words else set()


def _read(path: Path) -> Iterator[dict[str, Any]]:
    return (record for _, record in read_records(path))


def _write_documents(path: Path, documents: Mapping[str, str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for docno, text in documents.items():
            file.write(json.dumps({"docno": docno, "text": text}, ensure_ascii=False) + "\n")


def _write_dev(
    output: Path, name: str, queries: Mapping[str, tuple[str, list[str]]], documents: Mapping[str, str]
) -> None:
    _write_documents(output / f"dev-{name}.documents.jsonl", documents)
    with (output / f"dev-{name}.queries.jsonl").open("w", encoding="utf-8") as file:
        for qid, (query, _) in queries.items():
            file.write(json.dumps({"qid": qid, "query": query}, ensure_ascii=False) + "\n")
    with (output / f"dev-{name}.qrels.txt").open("w", encoding="utf-8") as file:
        for qid, (_, positives) in queries.items():
            file.writelines(f"{qid} 0 {docno} 1\n" for docno in positives)
