"""Decontamination: training texts that ask what an evaluation asks, each named with its counterpart.

A text is removed if it is equal to an evaluation query after normalisation (``exact``), or shares most runs of three
words with one (``near``); see :mod:`synthesis.similarity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthesis.lines import json_lines, tab_separated_lines
from synthesis.similarity import NearDuplicates, words

THRESHOLD = 0.5

_IDS = ("qid", "query_id", "_id", "id", "problem_id")
_TEXTS = ("query", "text", "title", "question", "problem")


@dataclass(frozen=True)
class Overlap:
    """A training text and the evaluation query that it is, or nearly is.

    Attributes:
        id: The training text's id.
        text: The training text.
        query_id: The evaluation query's id.
        query: The evaluation query.
        source: The file that the evaluation query is from.
        how: ``"exact"`` or ``"near"``.
        similarity: Jaccard similarity of their shingles; 1.0 if exact.
    """

    id: str
    text: str
    query_id: str
    query: str
    source: str
    how: str
    similarity: float


class EvaluationQueries:
    """The queries that training data must not hold.

    Args:
        queries: ``(source, query id, text)`` of each; the source is named in reports.
        threshold: Similarity from which on two texts count as nearly the same.

    Raises:
        ValueError: For no query at all, or a threshold outside (0, 1].
    """

    def __init__(self, queries: Iterable[tuple[str, str, str]], threshold: float = THRESHOLD):
        self._near = NearDuplicates(threshold)
        self._exact: dict[tuple[str, ...], str] = {}
        self._queries: dict[str, tuple[str, str, str]] = {}
        self.sources: dict[str, int] = {}
        for number, (source, query_id, text) in enumerate(queries):
            key = str(number)  # ids of different files may be equal
            self._queries[key] = (source, query_id, text)
            self._exact.setdefault(tuple(words(text)), key)
            self._near.add(key, text)
            self.sources[source] = self.sources.get(source, 0) + 1
        if not self._queries:
            raise ValueError("no evaluation query to decontaminate against: name at least one file that holds some")

    @classmethod
    def from_files(cls, paths: Sequence[str | Path], threshold: float = THRESHOLD) -> EvaluationQueries:
        """Reads JSONL (``query``, ``text``, ``title`` …) or TSV (id, tab, text), either gzipped or not.

        Raises:
            ValueError: For a line that is neither; it names file and line.
            OSError: If a file cannot be read.
        """
        return cls((query for path in paths for query in _read(Path(path))), threshold)

    @property
    def threshold(self) -> float:
        """Similarity from which on two texts count as nearly the same."""
        return self._near.threshold

    def find(self, text_id: str, text: str) -> Overlap | None:
        """Returns the evaluation query that a text is most like, or None if none is like it."""
        said = tuple(words(text))
        exact = self._exact.get(said) if said else None  # texts without a word are not therefore the same
        found = (exact, 1.0) if exact is not None else self._near.find(text)
        if found is None:
            return None
        source, query_id, query = self._queries[found[0]]
        how = "near" if exact is None else "exact"
        return Overlap(text_id, text, query_id, query, source, how, round(found[1], 4))


@dataclass(frozen=True)
class Decontamination:
    """What was compared with what, and what was found.

    Attributes:
        sources: Number of evaluation queries by file.
        threshold: Similarity from which on two texts count as nearly the same.
        checked: Number of training texts compared.
        overlaps: The texts to remove, each with its counterpart.
    """

    sources: dict[str, int]
    threshold: float
    checked: int
    overlaps: tuple[Overlap, ...]

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the texts to remove."""
        return frozenset(overlap.id for overlap in self.overlaps)

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON, with every pair."""
        pairs = [asdict(overlap) for overlap in self.overlaps]
        return {"against": self.sources, "threshold": self.threshold, "checked": self.checked, "removed": pairs}


def decontaminate(texts: Iterable[tuple[str, str]], against: EvaluationQueries) -> Decontamination:
    """Compares training texts, ``(id, text)`` each, with evaluation queries.

    Returns:
        The report; its ``ids`` are what to leave out.
    """
    found = [against.find(text_id, text) for text_id, text in texts]
    overlaps = tuple(overlap for overlap in found if overlap is not None)
    return Decontamination(dict(against.sources), against.threshold, len(found), overlaps)


def _read(path: Path) -> Iterator[tuple[str, str, str]]:
    for query_id, text in _from_json(path) if ".jsonl" in path.suffixes else _from_tsv(path):
        yield path.name, query_id, text


def _from_json(path: Path) -> Iterator[tuple[str, str]]:
    for place, record in json_lines(path):
        text = next((record[key] for key in _TEXTS if record.get(key)), None) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise ValueError(f"{place}: expected an object with the query under one of {', '.join(_TEXTS)}")
        yield str(next((record[key] for key in _IDS if record.get(key) is not None), place.line)), text


def _from_tsv(path: Path) -> Iterator[tuple[str, str]]:
    for place, fields in tab_separated_lines(path):
        if len(fields) != 2 or not fields[1].strip():
            raise ValueError(f"{place}: expected an id, a tab and the query; found {len(fields)} fields")
        yield fields[0], fields[1]
