"""A generator that needs its server only when its cache lacks something."""

from __future__ import annotations

import asyncio

from radar_llm.calls import Completion, Request
from radar_llm.generator import Generator


class CheckedLate:
    """A generator that is checked before the first call that its cache doesn't answer: till then it needs no server.

    Args:
        generator: The client.
    """

    def __init__(self, generator: Generator):
        self._generator = generator
        self._checking = asyncio.Lock()
        self._is_checked = False

    async def complete(self, request: Request, *, sample: int = 0, route: str = "") -> Completion:
        """See :meth:`Generator.complete`; a ServerError may be that of :meth:`Generator.check`."""
        if not self._is_checked and not self._generator.knows(request, sample):
            async with self._checking:  # one check for all; who is cancelled leaves it to the next
                if not self._is_checked:
                    await self._generator.check()
                    self._is_checked = True
        return await self._generator.complete(request, sample=sample, route=route)
