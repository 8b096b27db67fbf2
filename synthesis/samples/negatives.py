"""Hard negatives of a sample: what reflection rejected, then mined theorems, guarded against false ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from synthesis.retriever import QueryError
from synthesis.uses import Judgements

if TYPE_CHECKING:
    from synthesis.retriever import Theorems

REJECTED = "rejected"


@dataclass(frozen=True)
class Negative:
    """A theorem that does not answer the query, and how it was found: ``rejected``, ``bm25-37``, ``dense-4``."""

    docno: str
    origin: str


class Rankings:
    """What rankers say of the queries of one problem; each query is asked once.

    Args:
        rankers: A theorem corpus by name, such as ``bm25``.
    """

    def __init__(self, rankers: Mapping[str, Theorems]):
        self._rankers = rankers
        self._asked: dict[tuple[str, str, int], list[str]] = {}

    async def docnos(self, ranker: str, query: str, depth: int) -> list[str]:
        """Returns the first ``depth`` docnos of a ranking, best first; none for a query that cannot be ranked."""
        key = (ranker, query, depth)
        if key not in self._asked:
            try:
                hits = await self._rankers[ranker].search(query, depth)
            except QueryError:
                hits = []
            self._asked[key] = [hit.docno for hit in hits]
        return self._asked[key]

    async def between(self, ranks: Mapping[str, tuple[int, int]], query: str) -> Iterator[Negative]:
        """Gives the theorems at the named ranks (first and last, from 1) of each ranker, in turns."""
        lists = []
        for ranker, (first, last) in ranks.items():
            docnos = await self.docnos(ranker, query, last)
            lists.append([Negative(docno, f"{ranker}-{rank}") for rank, docno in enumerate(docnos, 1) if rank >= first])
        return (negative for turn in zip_longest(*lists) for negative in turn if negative is not None)


class Guard:
    """Keeps false negatives out of one problem's samples, and counts what it kept out and why.

    Args:
        judgements: What was said of theorems for the problem.
        text: Gives a theorem's text by docno.
    """

    def __init__(self, judgements: Judgements, text: Callable[[str], str]):
        self._judgements, self._text = judgements, text
        self.refused: Counter[str] = Counter()

    def choose(
        self, positive: str, rejected: Iterable[str], mined: Iterable[Negative], how_many: int
    ) -> tuple[Negative, ...]:
        """Returns up to ``how_many`` negatives for a positive: the rejected first, then mined ones in their order."""
        relevant = self._judgements.accepted | {positive}
        right = {_plain(self._text(docno)) for docno in relevant}
        taken: set[str] = set()
        chosen: list[Negative] = []
        for negative in chain((Negative(docno, REJECTED) for docno in rejected), mined):
            if len(chosen) >= how_many:
                break
            text = _plain(self._text(negative.docno))
            if negative.docno in relevant:
                self.refused["relevant"] += 1
            elif negative.docno in self._judgements.unclear:
                self.refused["unclear"] += 1
            elif text in right:
                self.refused["same_text"] += 1
            elif text not in taken:  # rankers often agree
                taken.add(text)
                chosen.append(negative)
        return tuple(chosen)


def _plain(text: str) -> str:
    return " ".join(text.split())
