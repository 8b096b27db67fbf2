"""One base URL: single attempts at a call, what came of them, and how many may be under way."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from radar_llm import wire
from radar_llm.calls import GenerationError, Request, ServerError, Usage
from radar_llm.disk import wait_for_space
from radar_llm.gate import Gate

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # between two looks at the server's queue
_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 4.0  # that a connection is kept: vLLM closes it after 5, at times while a request is on its way
_LONGEST_DOWN = 30.0
_LONGEST_WAIT = 600.0  # the longest Retry-After that is honoured
# How servers say that they don't know a field, before or after its name; what they echo of a request is in braces.
_UNKNOWN = (
    r"(?:un(?:known|expected|recogni[sz]ed|supported)|extra|additional"
    r"|not (?:support|permitted|allowed|recogni[sz]ed))"
)
_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


class AttemptError(Exception):
    """An attempt that may be made again.

    Attributes:
        wait: Seconds that the server asks for, 0 if it doesn't.
        is_unreachable: Whether nothing came back.
    """

    def __init__(self, reason: str, *, wait: float = 0.0, is_unreachable: bool = False):
        super().__init__(reason)
        self.wait, self.is_unreachable = wait, is_unreachable


class _StatusError(Exception):
    """An answer whose status isn't success."""

    def __init__(self, status: int, said: str, wait: float):
        super().__init__(said)
        self.status, self.said, self.wait = status, said, wait


class Server:
    """A base URL and what is known of the server behind it.

    Args:
        url: With or without ``/v1``.
        model: The model's name there.
        api_key: Sent, never shown.
        in_flight: The most attempts under way at one time.
        queue_limit: The most requests that may wait in the server's own queue, where it tells (vLLM's ``/metrics``):
            beyond it fewer attempts are made.
        timeout: Seconds an attempt may take.
        usage: Where attempts are counted.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        api_key: str | None,
        in_flight: int,
        queue_limit: int,
        timeout: float,
        usage: Usage,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{url!r} is no base URL: write something like http://localhost:8000/v1")
        self.url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        self._metrics_url: str | None = f"{parts.scheme}://{parts.netloc}/metrics"
        self._proxy = _proxy(parts)
        self._model, self._key, self._usage = model, api_key, usage
        self._timeout, self._in_flight, self._queue_limit = timeout, in_flight, queue_limit
        # Not all at once: what a server's queue holds cannot be taken back.
        self.gate = Gate(min(in_flight, 2 * queue_limit))
        self._session: aiohttp.ClientSession | None = None
        self._without: set[str] = set()
        self._said: set[str] = set()
        self._failures = 0
        self._down_until = 0.0
        self._last_look = 0.0
        self._look: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is worth an attempt: the last one reached it, or was some time ago."""
        return time.monotonic() >= self._down_until

    async def close(self) -> None:
        """Closes connections."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def models(self) -> list[str]:
        """Returns the names of the models that are served; none where the endpoint doesn't say.

        Raises:
            AttemptError: If it isn't reached.
            ServerError: If the key is refused.
        """
        try:
            payload = await self._ask("get", "/models")
        except _StatusError as error:
            if error.status in (401, 403):
                raise self._refusal(error) from error
            return []
        listed = payload.get("data") if isinstance(payload, Mapping) else None
        return [str(entry["id"]) for entry in listed or [] if isinstance(entry, Mapping) and "id" in entry]

    async def complete(self, request: Request, sample: int) -> wire.Answer:
        """Makes one attempt at a call; what the endpoint doesn't know is left out and said once.

        Raises:
            AttemptError: If it may be made again.
            GenerationError: If the request is refused.
            ServerError: If the model or the key is refused.
        """
        while True:
            sent = wire.body(self._model, request, sample, self._without)
            async with self.gate:
                await wait_for_space(self._usage)
                self._look_at_queue()
                try:
                    payload = await self._ask("post", "/chat/completions", sent)
                except _StatusError as error:
                    unknown = _unknown_field(error, sent)
                    if unknown is None:
                        raise self._refusal(error) from error
                    self._without.add(unknown)
                    self._say_once(f"{self.url} doesn't know {unknown!r}, which is left out from now on: {error.said}")
                    continue
            try:
                answer = wire.read(payload, request.sampling.choice)
            except wire.GarbledError as error:
                raise AttemptError(str(error)) from error
            self._note_what_was_ignored(answer, request, sent)
            return answer

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Returns what a request gave, parsed.

        Raises:
            AttemptError: If nothing came back, or no JSON.
            _StatusError: For any status but success.
        """
        usage, began = self._usage, time.monotonic()
        usage.in_flight += 1
        try:
            async with asyncio.timeout(self._timeout), self._request(method, self.url + path, body) as response:
                content = await response.read()
        except aiohttp.ClientError as error:  # some are a TimeoutError too
            self._failures += 1
            self._down_until = time.monotonic() + min(_LONGEST_DOWN, 0.25 * 2**self._failures)
            raise AttemptError(f"the connection failed ({error})", is_unreachable=True) from error
        except TimeoutError as error:
            raise AttemptError(f"no answer within {self._timeout:g} s") from error
        finally:
            usage.in_flight -= 1
            usage.busy_seconds += time.monotonic() - began
        if response.status // 100 != 2:
            said = self._shown(wire.error_message(content) or response.reason or "")
            raise _StatusError(response.status, said, _retry_after(response.headers))
        try:
            payload = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise AttemptError(f"the answer is no JSON ({error})") from error
        self._failures, self._down_until = 0, 0.0
        return payload

    def _request(
        self, method: str, url: str, body: object = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Begins a request.

        By aiohttp itself: all that the openai client adds to it takes more processor time than a call's other work.
        """
        if self._session is None:  # it is of the event loop that it is made in
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),  # the gate is the limit
                timeout=aiohttp.ClientTimeout(connect=_CONNECT_SECONDS),
            )
        return self._session.request(method, url, json=body, proxy=self._proxy)

    def _refusal(self, error: _StatusError) -> Exception:
        """Returns what a status that isn't success means."""
        status, said = error.status, error.said
        if status in (401, 403):
            return ServerError(f"{self.url} refuses the key (status {status}: {said}): give another one")
        if status == 404:
            return ServerError(f"{self.url} doesn't have the model {self._model!r} or no such path (404: {said})")
        if status in (408, 409, 425, 429) or status >= 500:
            return AttemptError(f"status {status}: {said}", wait=error.wait)
        return GenerationError(f"{self.url} refuses the request (status {status}: {said})")

    def _shown(self, text: str) -> str:
        """Returns what the server said, in one line without the key."""
        text = " ".join(text.split())
        return (text.replace(self._key, "…") if self._key else text)[:500]

    def _note_what_was_ignored(self, answer: wire.Answer, request: Request, sent: Mapping[str, Any]) -> None:
        if "structured_outputs" in sent and answer.text.strip() not in request.sampling.choice:
            self._say_once(f"{self.url} doesn't keep to the choices it is given: its answers are read as plain text")
        if "logprobs" in sent and request.sampling.choice and answer.choice_probabilities is None:
            self._say_once(f"{self.url} gives no log-probabilities: choices come without their probability")

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message)

    def _look_at_queue(self) -> None:
        now = time.monotonic()
        is_looking = self._look is not None and not self._look.done()
        if self._metrics_url and not is_looking and now - self._last_look >= _LOOK_SECONDS:
            self._last_look = now
            self._look = asyncio.create_task(self._adjust(self._metrics_url))

    async def _adjust(self, metrics_url: str) -> None:
        """Moves the gate's limit, so that the server's queue is neither empty nor long."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS), self._request("get", metrics_url) as response:
                found = _WAITING.findall(await response.text(errors="replace")) if response.ok else []
        except (aiohttp.ClientError, TimeoutError):
            return
        if not found:
            self._metrics_url = None  # it has no such metric
            self.gate.set_limit(self._in_flight)
            return
        waiting = int(sum(map(float, found)))
        if waiting > self._queue_limit:
            self.gate.set_limit(max(1, self.gate.busy - (waiting - self._queue_limit)))
        elif waiting <= self._queue_limit // 2:
            self.gate.set_limit(min(self._in_flight, self.gate.limit + self.gate.limit // 4 + 1))


def _proxy(url: SplitResult) -> str | None:
    """Returns the proxy that the environment names for a URL (``HTTP_PROXY``, ``NO_PROXY`` and so on).

    aiohttp would look it up for every request, in a thread, and mix in passwords from ``.netrc``.
    """
    if proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _unknown_field(error: _StatusError, sent: Mapping[str, Any]) -> str | None:
    """Returns the optional field that a refusal calls unknown."""
    names = "|".join(name for name in wire.OPTIONAL if name in sent)
    if error.status not in (400, 422) or not names:
        return None
    field, between = rf"\b(?:top_)?({names})\b", "[^{}]{0,40}?"
    found = re.search(rf"{_UNKNOWN}{between}{field}|{field}{between}{_UNKNOWN}", error.said, re.IGNORECASE)
    return (found[1] or found[2]) if found else None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Returns the seconds that a server asks to wait, given as seconds or as a date."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        return min(_LONGEST_WAIT, max(0.0, float(value)))
    with suppress(ValueError, TypeError):
        return min(_LONGEST_WAIT, max(0.0, parsedate_to_datetime(value).timestamp() - time.time()))
    return 0.0
