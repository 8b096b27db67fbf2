"""Frames over the reference solver's world, for the transformers that ask a language model."""

import pandas as pd
import pytest

from tests.synthesis import solver


def candidates(queries: int = 2, documents: int = 20) -> pd.DataFrame:
    """A ranking for each problem of the solver's world: theorems in the order of the corpus."""
    texts = list(solver.theorems().items())[:documents]
    rows = [
        (problem["id"], problem["problem"], docno, text, 1 - place / 100, place)
        for problem in solver.problems(queries)
        for place, (docno, text) in enumerate(texts)
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "score", "rank"])


def is_needed(frame: pd.DataFrame) -> list[bool]:
    """Whether each row's document is a theorem that the problem needs."""
    truths = [solver.truth(query).theorems for query in frame["query"]]
    return [docno in needed for docno, needed in zip(frame["docno"], truths, strict=True)]


def topics(queries: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        [(problem["id"], problem["problem"]) for problem in solver.problems(queries)], columns=["qid", "query"]
    )


@pytest.fixture
def short_delays(monkeypatch):
    monkeypatch.setattr("radar_llm.generator._FIRST_DELAY", 0.01)
    monkeypatch.setattr("radar_llm.generator._LONGEST_DELAY", 0.05)
