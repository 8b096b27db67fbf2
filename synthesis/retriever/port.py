"""What synthesis asks of a retriever, and the micro-batching that makes asking one at a time cheap."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from synthesis.retriever.corpus import Corpus, theorem_texts

_WINDOW_SECONDS = 0.003


class Hit(NamedTuple):
    """A theorem that was found."""

    docno: str
    score: float


class QueryError(ValueError):
    """A query that cannot be searched, such as one that is too long for an endpoint; others can.

    Attributes:
        query: The query.
    """

    def __init__(self, query: str, reason: str):
        super().__init__(reason)
        self.query = query


class Theorems(Protocol):
    """A corpus of theorems that can be searched."""

    async def search(self, query: str, k: int) -> list[Hit]:
        """Returns the ``k`` best theorems, best first, fewer where there are no more.

        Raises:
            QueryError: If this query cannot be searched.
        """
        ...

    def text(self, docno: str) -> str:
        """Returns a theorem's text.

        Raises:
            KeyError: If there is no such theorem.
        """
        ...


class BatchedTheorems(ABC):
    """Theorems ranked for several queries at once, in a thread, one batch after the other.

    Searches that begin within a few milliseconds of each other, or while a batch is being ranked, become one batch:
    the event loop goes on, and a model or an index works on many queries at a time.

    Args:
        corpus: The theorems.
        batch: Most queries of a batch.

    Raises:
        CorpusError: For a docno that is there twice, a blank text, or no theorem.
    """

    def __init__(self, corpus: Corpus, *, batch: int = 64):
        if batch < 1:
            raise ValueError(f"batch is {batch}: it must be 1 or more")
        self.texts = theorem_texts(corpus)
        self._batch = batch
        self._waiting: deque[tuple[str, int, asyncio.Future[list[Hit]]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    @abstractmethod
    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the ``k`` best theorems of each query, best first; called in a thread, never twice at a time.

        Raises:
            QueryError: If one of them cannot be searched; the others are then ranked without it.
        """

    async def search(self, query: str, k: int) -> list[Hit]:
        """See :class:`Theorems`; raises whatever :meth:`rank` does."""
        if k < 1:
            raise ValueError(f"k is {k}: it must be 1 or more")
        found: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, k, found))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await found

    def text(self, docno: str) -> str:
        """See :class:`Theorems`."""
        return self.texts[docno]

    async def _work(self) -> None:
        await asyncio.sleep(_WINDOW_SECONDS)
        while self._waiting:
            searches = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            searches = [search for search in searches if not search[2].done()]  # whose caller was cancelled
            if not searches:
                continue
            queries = list(dict.fromkeys(query for query, _, _ in searches))
            try:
                rankings = await asyncio.to_thread(self.rank, queries, max(k for _, k, _ in searches))
            except Exception as error:
                failed = {error.query} if isinstance(error, QueryError) else set(queries)
                self._waiting.extendleft(search for search in reversed(searches) if search[0] not in failed)
                for query, _, found in searches:
                    if query in failed and not found.done():
                        found.set_exception(error)
                continue
            by_query = dict(zip(queries, rankings, strict=True))
            for query, k, found in searches:
                if not found.done():
                    found.set_result(by_query[query][:k])
