"""A small corpus to mine, and a miner that is told what to give."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data import Documents, Example, TrainingSet, read_examples, write_examples
from training.negatives.miners import Ranking

WORDS = "group ring field compact bounded sequence limit prime ideal finite cover metric kernel graph vertex".split()


def passages(count: int = 40) -> dict[str, str]:
    """Passages ``d0#0, d0#1, d1#0, …`` of a few words; every tenth has the text of the one before it."""
    rng = random.Random(7)
    texts: dict[str, str] = {}
    for number in range(count):
        text = f"the {' '.join(rng.choices(WORDS, k=6))} of case {number}"
        if number % 10 == 9:
            text = texts[f"d{(number - 1) // 2}#{(number - 1) % 2}"]
        texts[f"d{number // 2}#{number % 2}"] = text
    return texts


TEXTS = passages()
DOCNOS = list(TEXTS)


def document_of(docno: str) -> str:
    return docno.split("#")[0]


def training_set(folder: Path, examples: Sequence[Example], texts: dict[str, str] = TEXTS) -> TrainingSet:
    documents = Documents.from_texts(texts)
    folder.mkdir(parents=True, exist_ok=True)
    write_examples(folder / "given.jsonl", examples)
    return read_examples(folder / "given.jsonl", documents, cache=folder / "cache")


def simple_examples(count: int) -> list[Example]:
    rng = random.Random(3)
    return [
        Example(f"q{n}", f"which {' '.join(rng.choices(WORDS, k=3))} number {n % 20}", "question", rng.choice(DOCNOS))
        for n in range(count)
    ]


def mined(path: Path, documents: Documents) -> list[Example]:
    return list(read_examples(path, documents, cache=path.parent / "cache"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class ByHand:
    """A miner that gives what it is told to, and stops when it is told to."""

    def __init__(self, ranking: list[str], name: str = "hand", calls: int = 10**9):
        self.name, self._ranking, self._calls = name, ranking, calls

    def settings(self) -> dict[str, Any]:
        return {"ranking": self._ranking}

    def rank(self, queries: Sequence[str], depth: int) -> list[Ranking]:
        self._calls -= 1
        if self._calls < 0:
            raise KeyboardInterrupt
        return [[(docno, 1.0) for docno in self._ranking[:depth]] for _ in queries]
