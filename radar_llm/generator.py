"""The client of one model on one or several servers: cache first, then a server, then again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType

from radar_llm.cache import CallCache, call_key
from radar_llm.calls import Completion, GenerationError, Request, ServerError, Usage
from radar_llm.disk import despite_full_disk
from radar_llm.server import AttemptError, Server
from radar_llm.wire import Answer

logger = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0


class _Shared:
    """A call under way and how many wait for it."""

    def __init__(self, task: asyncio.Task[Completion]):
        self.task = task
        self.waiting = 0


class Generator:
    """Asks a language model, from one event loop; an asynchronous context manager that closes connections.

    Every answer is kept in the call cache, and a call whose answer is there costs nothing; on a full disk answers are
    held until there is space, and no attempt is begun meanwhile. Equal calls under way at one time share one request. A
    failed attempt is made again after an exponentially growing, random delay, on another server if the one it was made
    on is down. When the retries are spent, the call is at fault if others were answered meanwhile, else the server.

    Args:
        urls: Base URLs of servers that all have the model.
        model: Its name.
        in_flight: The most attempts under way at one time on each server. Somewhat more than the server's slots, so
            that these are never empty.
        cache: The call cache.
        api_key: For servers that want one.
        timeout: Seconds an attempt may take, the wait in the server's queue included.
        retries: Attempts after the first one: the default makes for about two minutes.
        queue_limit: See :class:`~radar_llm.server.Server`.

    Attributes:
        usage: What was done so far.

    Raises:
        ValueError: For a number out of range or no URL.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        in_flight: int = 96,
        cache: CallCache,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 10,
        queue_limit: int = 32,
    ):
        if isinstance(urls, str) or not urls:
            raise ValueError("give a list of at least one base URL")
        for name, value, least in (
            ("in_flight", in_flight, 1),
            ("retries", retries, 0),
            ("queue_limit", queue_limit, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}: it must be {least} or more")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}: it must be more than 0 seconds")
        self.model, self.usage = model, Usage()
        self._cache, self._retries = cache, retries
        self._servers = [
            Server(
                url,
                model=model,
                api_key=api_key,
                in_flight=in_flight,
                queue_limit=queue_limit,
                timeout=timeout,
                usage=self.usage,
            )
            for url in dict.fromkeys(urls)
        ]
        self._shared: dict[str, _Shared] = {}

    async def __aenter__(self) -> Generator:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes connections."""
        for server in self._servers:
            await server.close()

    async def check(self) -> None:
        """Makes sure that there is a server, that it takes the key and has the model, before any work.

        Raises:
            ServerError: If not; it names the server, and the models it has.
        """
        found = await asyncio.gather(*(server.models() for server in self._servers), return_exceptions=True)
        unreached = []
        for server, models in zip(self._servers, found, strict=True):
            if isinstance(models, AttemptError):
                unreached.append(f"{server.url}: {models}")
            elif isinstance(models, BaseException):
                raise models
            elif models and self.model not in models:
                raise ServerError(f"{server.url} doesn't have the model {self.model!r}; it has {', '.join(models)}")
        if len(unreached) == len(self._servers):
            raise ServerError(f"no server answers ({'; '.join(unreached)}): start one, or check the URL")
        for reason in unreached:
            logger.warning("going on without %s", reason)

    def knows(self, request: Request, sample: int = 0) -> bool:
        """Says whether a call is answered by the cache."""
        return self._cache.get(call_key(self.model, request, sample)) is not None

    async def complete(self, request: Request, *, sample: int = 0, route: str = "") -> Completion:
        """Returns one sample.

        Args:
            request: What is asked.
            sample: Its number: other numbers get other seeds.
            route: Calls of one route go to one server, as long as it is up: a problem's id, so that its growing
                prompts find their beginnings in that server's prefix cache.

        Raises:
            GenerationError: If it cannot be answered.
            ServerError: If nothing can.
        """
        key = call_key(self.model, request, sample)
        known = self._cache.get(key)
        if known is not None:
            self.usage.cached += 1
            return known
        shared = self._shared.get(key)
        is_first = shared is None
        if shared is None:
            shared = _Shared(asyncio.create_task(self._call(key, request, sample, route or key)))
            self._shared[key] = shared
        shared.waiting += 1
        try:
            completion = await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                shared.task.cancel()  # nobody wants it any more; nothing happens if it is done
                if self._shared.get(key) is shared:
                    del self._shared[key]
        if is_first:
            return completion
        self.usage.cached += 1
        return replace(completion, is_cached=True)

    async def samples(self, request: Request, n: int, *, route: str = "", ahead: int = 1) -> AsyncGenerator[Completion]:
        """Yields samples 0 to n − 1 in this order, whichever comes first, so that a run repeats itself exactly.

        Args:
            request: What is asked.
            n: The number of samples.
            route: See :meth:`complete`.
            ahead: How many are asked for at one time. With 1, whoever stops at a good sample has not paid for the next
                one; n is faster where the server has slots to spare. Closing the iterator cancels what is under way.

        Raises:
            GenerationError: If one cannot be answered; the iterator ends with it.
            ServerError: If nothing can.
        """
        tasks: list[asyncio.Task[Completion]] = []
        try:
            for sample in range(n):
                while len(tasks) < min(n, sample + ahead):
                    tasks.append(asyncio.create_task(self.complete(request, sample=len(tasks), route=route)))
                yield await tasks[sample]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(self, key: str, request: Request, sample: int, route: str) -> Completion:
        try:
            answer = await self._answer(request, sample, route)
        except (GenerationError, ServerError):
            self.usage.failed += 1
            raise
        self.usage.calls += 1
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.generated_tokens += answer.generated_tokens
        completion = Completion(**vars(answer), call=key, is_cached=False)

        async def keep() -> None:
            self._cache.put(key, self.model, request, sample, completion)

        await despite_full_disk(keep, self.usage)
        return completion

    async def _answer(self, request: Request, sample: int, route: str) -> Answer:
        for attempt in range(self._retries + 1):
            if attempt < 2:  # what came while the first attempt was under way says nothing of a server that fails since
                answered = self.usage.calls
            server = self._server(route)
            try:
                return await server.complete(request, sample)
            except AttemptError as error:
                last = error
                reason = f"{attempt + 1} attempts failed, the last one on {server.url}: {error}"
            if attempt < self._retries:
                self.usage.retried += 1
                delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempt)
                # At random, so that calls that failed together don't come back together.
                await asyncio.sleep(max(last.wait, delay * random.uniform(0.5, 1.0)))
        if last.is_unreachable:
            raise ServerError(f"no server answers: {reason}") from last
        if self.usage.calls == answered:
            remedy = "see the server's log, or be more patient (generator.timeout, generator.retries)"
            raise ServerError(f"no call is answered: {reason}: {remedy}") from last
        raise GenerationError(reason) from last

    def _server(self, route: str) -> Server:
        """Returns the route's server among those that are up, by rendezvous hashing: others keep theirs."""
        servers = [server for server in self._servers if server.is_up] or self._servers
        if len(servers) == 1:
            return servers[0]
        return max(servers, key=lambda server: blake2b(f"{server.url} {route}".encode(), digest_size=8).digest())
