"""Parts of a run that start at once: a verifier without sympy, theorems without an index, small trees."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from radar_answers import Judge, Verdict
from radar_llm import Generator
from radar_llm.cache import CallCache
from synthesis.problems import Problem, read_problems
from synthesis.retriever import Hit
from synthesis.settings import GeneratorSettings, Settings
from synthesis.solve import Parts
from synthesis.tree import TreeSettings
from tests.synthesis import solver

ROOT = Path(__file__).parents[2]
SMALL = Settings(tree=TreeSettings(rollouts=3, max_depth=4), generator=GeneratorSettings(model="solver"))


class LiteralVerifier:
    """Equal texts are equal answers, as they are in the solver's world."""

    async def check(
        self, gold: str, answer: str | None, *, choices: Sequence[str] | None = None, judge: Judge | None = None
    ) -> Verdict:
        return Verdict(gold == answer, "literal")


class WordTheorems:
    """Theorems by the words that they share with a query."""

    def __init__(self, texts: dict[str, str] | None = None):
        self.texts = texts or solver.theorems()
        self._words = {docno: set(re.findall(r"\w+", text.lower())) for docno, text in self.texts.items()}

    async def search(self, query: str, k: int) -> list[Hit]:
        asked = set(re.findall(r"\w+", query.lower()))
        scored = [Hit(docno, len(asked & words) / len(asked | words)) for docno, words in self._words.items()]
        return sorted(scored, key=lambda hit: -hit.score)[:k]

    def text(self, docno: str) -> str:
        return self.texts[docno]


@asynccontextmanager
async def small_parts(
    served: solver.Solver, cache: str | Path = ":memory:", settings: Settings = SMALL, retries: int = 3
) -> AsyncIterator[Parts]:
    calls = CallCache(cache)
    async with Generator([served.url], "solver", cache=calls, retries=retries) as generator:
        yield Parts(generator, WordTheorems(), LiteralVerifier(), settings, "c0ffee")  # type: ignore[arg-type]
    calls.close()


@contextmanager
def served(mind: solver.Mind | None = None, **server: Any) -> Iterator[solver.Solver]:
    """A solver in a thread of its own, for a run that has an event loop of its own, in this process or another."""
    started, ended = threading.Event(), asyncio.Event()
    running = solver.Solver(mind, **server)
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with running:
            started.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield running
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@contextmanager
def solver_process(*options: object) -> Iterator[str]:
    """A solver in a process of its own, with options of its command line; gives its base URL."""
    command = [sys.executable, "-m", "tests.synthesis.solver", *map(str, options)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def some_problems(number: int, seed: int = 0) -> list[Problem]:
    return read_problems(solver.problems(number, seed))


def with_tree(settings: Settings = SMALL, **tree: Any) -> Settings:
    return replace(settings, tree=replace(settings.tree, **tree))


def content(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says, less what depends on the clock and on what was in the call cache before."""
    counts = record["counts"]
    lasting = {name: counts[name] for name in ("calls", "prompt_tokens", "generated_tokens", "unparsable", "failed")}
    return {name: value for name, value in record.items() if name not in ("seconds", "counts")} | {"counts": lasting}
