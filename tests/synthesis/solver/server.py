"""The solver behind the OpenAI protocol, with a fixed number of slots, latency, and faults by schedule."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from statistics import NormalDist
from typing import Any
from zlib import crc32

import numpy as np
from aiohttp import web

from tests.synthesis.solver import mind
from tests.synthesis.solver.mind import Mind

_DIMENSION = 256
TOKENS = {
    "thought": 110,
    "completion": 320,
    "candidates": 300,
    "reflection": 1,
    "same_answer": 1,
    "reflection_reason": 50,
    "summary": 60,
    "theorem_question": 45,
    "lexical_question": 45,
    "rating": 7,
    "reasoning": 300,
    "answer": 320,
    "answer_with_documents": 320,
}
_KNOWN = {"structured_outputs", "logprobs", "top_k", "seed"}


@dataclass(frozen=True)
class Load:
    """How long answers take.

    Attributes:
        slots: Sequences that are generated at one time; others wait.
        first_token_seconds: From the beginning of a slot's work to the first token.
        token_seconds: For each token.
        length: Factor of the median number of generated tokens, which is ``TOKENS``.
        spread: Standard deviation of the logarithm of that number.
    """

    slots: int = 64
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    length: float = 1.0
    spread: float = 0.5

    def generated(self, asked: mind.Asked, most: int) -> int:
        """Returns how many tokens an answer has."""
        normal = NormalDist().inv_cdf(min(max(asked.draw("tokens"), 1e-6), 1 - 1e-6))
        return max(1, min(most, round(self.length * TOKENS[asked.task] * math.exp(self.spread * normal))))


@dataclass(frozen=True)
class Faults:
    """What goes wrong, by the share of attempts; another attempt at the same call draws anew.

    Attributes:
        refused: Answered by 429.
        retry_after: What a 429 says, in seconds; nothing if None.
        errors: Answered by 500.
        hangs: Not answered for ``hang_seconds``.
        hang_seconds: See ``hangs``.
        disconnects: The connection is closed instead of an answer.
        truncated: The JSON ends in the middle.
        storm: From and until when, in seconds since the start, everything is answered by 429.
        down: The same for closed connections.
    """

    refused: float = 0.0
    retry_after: float | None = None
    errors: float = 0.0
    hangs: float = 0.0
    hang_seconds: float = 60.0
    disconnects: float = 0.0
    truncated: float = 0.0
    storm: tuple[float, float] = (0.0, 0.0)
    down: tuple[float, float] = (0.0, 0.0)


@dataclass
class Tally:
    """What a solver has done; ``busy_seconds / (slots * seconds)`` is the busy share of its slots."""

    calls: Counter[str] = field(default_factory=Counter)  # answered, by task
    statuses: Counter[int] = field(default_factory=Counter)
    cancelled: int = 0
    running: int = 0
    waiting: int = 0
    most_waiting: int = 0
    most_running: int = 0
    busy_seconds: float = 0.0


class Solver:
    """The server; an asynchronous context manager.

    Args:
        mind: How good it is.
        load: How fast.
        faults: What goes wrong.
        model: The name of the only model it has.
        api_key: If given, requests without it are refused.
        lacks: Of ``structured_outputs``, ``logprobs``, ``top_k`` and ``seed``, what it doesn't know.
        refuses: Whether it refuses requests with what it doesn't know, instead of ignoring it.
        has_metrics: Whether it tells its queue, as vLLM does.
        longest_prompt: Characters of a prompt, or of a text to embed, beyond which it is refused.
        refused: Tasks whose prompts are refused.
        cut: Tasks whose answers are said to be cut off.

    Attributes:
        url: The base URL, once started.
        tally: See :class:`Tally`.
        bodies: The last bodies received, for tests.
    """

    def __init__(
        self,
        mind: Mind | None = None,
        load: Load | None = None,
        faults: Faults | None = None,
        *,
        model: str = "solver",
        api_key: str | None = None,
        lacks: frozenset[str] = frozenset(),
        refuses: bool = False,
        has_metrics: bool = True,
        longest_prompt: int = 200_000,
        refused: Collection[str] = (),
        cut: Collection[str] = (),
        port: int = 0,
    ):
        assert lacks <= _KNOWN
        self.mind, self.load, self.faults = mind or Mind(), load or Load(), faults or Faults()
        self.model = model
        self._key, self._lacks, self._refuses, self._has_metrics = api_key, lacks, refuses, has_metrics
        self._longest_prompt, self.port = longest_prompt, port
        self._refused, self._cut = refused, cut
        self.tally = Tally()
        self.bodies: deque[dict[str, Any]] = deque(maxlen=100)
        self._attempts: Counter[bytes] = Counter()
        self._slots = asyncio.Semaphore(self.load.slots)
        self._runner: web.ServerRunner | None = None
        self._started = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Solver:
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._started = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removeprefix("/v1")
        if path == "/metrics":
            return web.Response(text=self._metrics()) if self._has_metrics else _error(404, "no metrics here")
        if self._key and request.headers.get("Authorization") != f"Bearer {self._key}":
            return self._refuse(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
        if path == "/models":
            return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})
        body = await request.json()
        if body.get("model") != self.model:
            return self._refuse(404, f"The model `{body.get('model')}` does not exist.")
        if path == "/embeddings":
            if max(map(len, body["input"])) > self._longest_prompt:
                return self._refuse(400, "This model's maximum context length is shorter than the input.")
            return web.json_response(_embeddings(body))
        if path != "/chat/completions":
            return self._refuse(404, f"no path {path}")
        self.bodies.append(body)
        if sum(len(message["content"]) for message in body["messages"]) > self._longest_prompt:
            return self._refuse(400, "This model's maximum context length is shorter than the prompt.")
        if mind.read(body["messages"], 0).task in self._refused:
            return self._refuse(400, "This prompt is refused.")
        if self._refuses and (unknown := sorted(self._lacks & body.keys())):
            return self._refuse(400, f"Unrecognized request argument supplied: {unknown[0]}")
        return await self._chat(request, {name: value for name, value in body.items() if name not in self._lacks})

    async def _chat(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        fault = self._fault(body)
        if fault == "down" or fault == "disconnect":
            return _hang_up(request)
        if fault == "storm" or fault == "refused":
            after = self.faults.retry_after
            return self._refuse(429, "slow down", {} if after is None else {"Retry-After": str(after)})
        if fault == "error":
            return self._refuse(500, "something broke")
        try:
            response = await self._generate_in_slot(body, hangs=fault == "hang")
        except asyncio.CancelledError:
            self.tally.cancelled += 1
            raise
        self.tally.statuses[200] += 1
        text = json.dumps(response)
        if fault == "truncated":
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        return web.Response(text=text, content_type="application/json")

    async def _generate_in_slot(self, body: dict[str, Any], *, hangs: bool = False) -> dict[str, Any]:
        tally = self.tally
        tally.waiting += 1
        tally.most_waiting = max(tally.most_waiting, tally.waiting)
        try:
            await self._slots.acquire()
        finally:
            tally.waiting -= 1
        try:
            return await self._generate(body, hangs=hangs)
        finally:
            self._slots.release()

    async def _generate(self, body: dict[str, Any], *, hangs: bool) -> dict[str, Any]:
        began = time.monotonic()
        self.tally.running += 1
        self.tally.most_running = max(self.tally.most_running, self.tally.running)
        try:
            if hangs:
                await asyncio.sleep(self.faults.hang_seconds)
            messages, seed, samples = body["messages"], body.get("seed") or 0, body.get("n") or 1
            asked = [mind.read(messages, seed + place) for place in range(samples)]
            tokens = [self.load.generated(one, body.get("max_tokens") or 4096) for one in asked]
            seconds = self.load.first_token_seconds + max(tokens) * self.load.token_seconds
            if seconds:
                await asyncio.sleep(seconds)
        finally:
            self.tally.running -= 1
            self.tally.busy_seconds += time.monotonic() - began
        self.tally.calls[asked[0].task] += 1
        prompt_tokens = sum(len(message["content"]) for message in messages) // 4
        return {
            "id": "chatcmpl-solver",
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [self._choice(body, one, place) for place, one in enumerate(asked)],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": sum(tokens),
                "total_tokens": prompt_tokens + sum(tokens),
            },
        }

    def _choice(self, body: dict[str, Any], asked: mind.Asked, place: int) -> dict[str, Any]:
        choice = (body.get("structured_outputs") or {}).get("choice") or ()
        text = self.mind.answer(asked, choice)
        ends = [at for stop in body.get("stop") or () if (at := text.find(stop)) >= 0]
        text = text[: min(ends)] if ends else text
        return {
            "index": place,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if asked.task in self._cut else "stop",
            "logprobs": self._logprobs(asked) if body.get("logprobs") else None,
        }

    def _logprobs(self, asked: mind.Asked) -> dict[str, Any]:
        likely = [(text, 0.98 * share) for text, share in self.mind.probabilities(asked).items()] + [("The", 0.02)]
        top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in likely]
        return {"content": [{"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}]}

    def _fault(self, body: dict[str, Any]) -> str:
        """Returns what goes wrong with this attempt, or ``""``."""
        faults, now = self.faults, time.monotonic() - self._started
        if faults == Faults():
            return ""
        for name in ("down", "storm"):
            start, end = getattr(faults, name)
            if start <= now < end:
                return name
        call = blake2b(json.dumps([body["messages"][-1], body.get("seed")]).encode(), digest_size=8).digest()
        self._attempts[call] += 1
        drawn = blake2b(self._attempts[call].to_bytes(4, "big"), key=call, digest_size=6).digest()
        share = int.from_bytes(drawn, "big") / 2**48
        for name, bound in (
            ("refused", faults.refused),
            ("error", faults.errors),
            ("hang", faults.hangs),
            ("disconnect", faults.disconnects),
            ("truncated", faults.truncated),
        ):
            if share < bound:
                return name
            share -= bound
        return ""

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
        self.tally.statuses[status] += 1
        return _error(status, message, headers)

    def _metrics(self) -> str:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        return (
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            f"vllm:num_requests_running{labels} {float(self.tally.running)}\n"
            f"vllm:num_requests_waiting{labels} {float(self.tally.waiting)}\n"
            f"solver:busy_seconds_total{labels} {self.tally.busy_seconds}\n"
            f"solver:calls_total{labels} {self.tally.calls.total()}\n"
        )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": status}}
    return web.json_response(error, status=status, headers=headers)


def _hang_up(request: web.BaseRequest) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Bags of words, hashed: texts that share words are near to each other."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = []
    for place, text in enumerate(texts):
        vector = np.zeros(_DIMENSION)
        for word in re.findall(r"\w+", text.lower()):
            vector[crc32(word.encode()) % _DIMENSION] += 1
        vector /= max(1e-9, float(np.linalg.norm(vector)))
        data.append({"object": "embedding", "index": place, "embedding": vector.tolist()})
    return {"object": "list", "data": data, "model": body["model"], "usage": {"prompt_tokens": 0, "total_tokens": 0}}
