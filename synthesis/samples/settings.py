"""How samples are made; the defaults are the paper's (§4, Appendix B–E) where it states them."""

from __future__ import annotations

from dataclasses import dataclass

TYPES = ("question", "cot", "llmq", "lexical")


@dataclass(frozen=True)
class SampleSettings:
    """Settings of :func:`synthesis.samples.make_samples`.

    Attributes:
        types: Which query types to make.
        negatives: How many hard negatives a sample gets, if there are as many.
        mined_ranks: First and last rank, from 1, of a ranking for the query that mined negatives are taken from. What
            ranks higher is left out, because nobody judged it.
        dense_top: A lexical query's dense negatives are the encoder's first so many.
        round_trip: A lexical query is kept if BM25 finds its theorem among the first so many.
        attempts: How often a query that does not pass is written anew.
        max_overlap: The largest share of an ``llmq`` query's content words that may occur in the theorem.
        lexical_queries: A theorem gets as many lexical queries as problems that it helped, at most so many.
        near_duplicate: Jaccard similarity of word triples from which on a query of the same type and theorem as an
            earlier one is dropped.
        concurrency: How many problems are worked on at once.
    """

    types: tuple[str, ...] = TYPES
    negatives: int = 11
    mined_ranks: tuple[int, int] = (31, 50)
    dense_top: int = 10
    round_trip: int = 20
    attempts: int = 3
    max_overlap: float = 0.5
    lexical_queries: int = 4
    near_duplicate: float = 0.8
    concurrency: int = 64

    def __post_init__(self) -> None:
        unknown = [name for name in self.types if name not in TYPES]
        if unknown or not self.types:
            raise ValueError(f"samples.types must be some of {', '.join(TYPES)}, not {', '.join(unknown) or 'none'}")
        for name in ("dense_top", "round_trip", "attempts", "lexical_queries", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"samples.{name} must be at least 1, not {getattr(self, name)!r}")
        if self.negatives < 0:
            raise ValueError(f"samples.negatives must be at least 0, not {self.negatives!r}")
        if not 1 <= self.mined_ranks[0] <= self.mined_ranks[1]:
            raise ValueError(f"samples.mined_ranks must be two ranks from 1, in order, not {self.mined_ranks!r}")
        for name in ("max_overlap", "near_duplicate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"samples.{name} must lie above 0 and at most at 1, not at {getattr(self, name)!r}")
