"""A bound on what is under way, first come, first served, which may be moved meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Lets at most ``limit`` in at one time; an asynchronous context manager.

    Attributes:
        limit: See :meth:`set_limit`.
        busy: How many are inside.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.busy = 0
        self._turns: deque[asyncio.Future[None]] = deque()

    def set_limit(self, limit: int) -> None:
        """Changes the bound; who is inside beyond it stays."""
        self.limit = limit
        self._admit()

    async def __aenter__(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # cancelled when its turn had just come: hand it on
                await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.busy -= 1
        self._admit()

    def _admit(self) -> None:
        while self._turns and self.busy < self.limit:
            turn = self._turns.popleft()
            if not turn.done():  # else its caller was cancelled
                self.busy += 1
                turn.set_result(None)
