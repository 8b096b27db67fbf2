"""A language model for synchronous code: many calls under way at one time, in an event loop of their own."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import fields
from functools import cache as cached
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyterrier as pt

try:
    from radar_llm import (
        CallCache,
        CheckedLate,
        Completion,
        GenerationError,
        Generator,
        Request,
        ServerError,
        Template,
        Usage,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        f"{error.name} is missing, which talks to language models: pip install 'pyterrier-radar[llm]'"
    ) from error

Item = TypeVar("Item")

URL = "http://localhost:8000/v1"
_POLL_SECONDS = 0.1

logger = logging.getLogger(__name__)


@cached
def prompt(name: str) -> Template:
    """The prompt file of that name, from ``pyterrier_radar/prompts``."""
    file = resources.files("pyterrier_radar") / "prompts" / f"{name}.txt"
    return Template.of(name, file.read_text(encoding="utf-8"))


class Stage(Protocol):
    """A transformer that asks a language model; the first part of its key is where and which."""

    model: str

    def _settings_key(self) -> Any: ...


def decides_answers(stage: Stage) -> str:
    """Everything of a stage that changes its answers: not where the model is asked."""
    return repr((stage.model, *stage._settings_key()[1:]))


def spent(usage: Usage) -> dict[str, int]:
    """What is reported of a usage: calls, and the tokens paid for."""
    names = ("calls", "cached", "prompt_tokens", "generated_tokens")
    return {name: getattr(usage, name) for name in names}


class LanguageModel:
    """A model behind one or several OpenAI-protocol servers, asked many things at once by code that waits for all.

    Every answer is in the cache as soon as it has come, so whatever ends the program loses nothing and pays for
    nothing twice. The event loop is one of its own, in a thread of its own: a notebook's may be running.

    Args:
        model: The model's name.
        url: Base URL of a server, or of several that all have the model.
        cache: A file, a call cache to share, or None for one in memory that lives as long as this object.
        in_flight: The most calls under way at one time on each server.
        api_key: For servers that want one.
        timeout: Seconds an attempt may take.
        retries: Attempts after the first.

    Attributes:
        usage: What was done so far, all calls of :meth:`answer` together.

    Raises:
        ValueError: For a number out of range or no URL.
    """

    def __init__(
        self,
        model: str,
        url: str | Sequence[str] = URL,
        *,
        cache: str | Path | CallCache | None = None,
        in_flight: int = 96,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 10,
    ):
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"name the model as its server does, not {model!r}")
        self.model = model
        self.urls = (url,) if isinstance(url, str) else tuple(url)
        self.cache = CallCache(":memory:") if cache is None else cache
        self.usage = Usage()
        self._in_flight = in_flight
        self._settings = {"in_flight": in_flight, "api_key": api_key, "timeout": timeout, "retries": retries}
        with closing(CallCache(":memory:")) as nothing:
            self._generator(nothing)  # a number out of range or a bad URL is said now

    def settings(self) -> tuple[str, ...]:
        """What decides the answers, as far as this side knows: the model and where it is asked."""
        return (self.model, *self.urls)

    def answer(
        self,
        asked: Sequence[Item],
        request: Callable[[Item], Request],
        *,
        route: Callable[[Item], str] = lambda _: "",
        label: str = "asking",
        verbose: bool = False,
    ) -> list[Completion | GenerationError]:
        """Asks for all items and returns the answers in their order; what cannot be answered is an error in its place.

        Interrupted (Ctrl-C), it cancels what is under way, at the server too, and raises on.

        Args:
            asked: The items.
            request: Makes the request of an item, when its turn has come.
            route: What items have in common that should go to the same of several servers, for its prefix cache.
            label: What the progress bar says.
            verbose: Whether to show it.

        Raises:
            ServerError: If no call can be answered: no server, a wrong model, a refused key.
            CacheError: If the cache cannot be opened.
        """
        answers: dict[int, Completion | GenerationError] = {}
        with self._open_cache() as cache:
            generator = self._generator(cache)
            work = _ask_all(generator, asked, request, route, answers, workers=2 * self._in_flight * len(self.urls))
            with pt.tqdm(total=len(asked), desc=label, unit="call", disable=not verbose) as bar:
                try:
                    in_own_loop(work, lambda: bar.update(len(answers) - bar.n))
                except ServerError as error:
                    answered = generator.usage.calls + generator.usage.cached
                    error.add_note(f"{answered} of {len(asked)} were answered; {_keeping(cache)}")
                    raise
                finally:
                    self._count(generator.usage)
        return [answers[place] for place in range(len(asked))]

    def _generator(self, cache: CallCache) -> Generator:
        return Generator(self.urls, self.model, cache=cache, **self._settings)  # type: ignore[arg-type]

    @contextmanager
    def _open_cache(self) -> Iterator[CallCache]:
        if isinstance(self.cache, CallCache):
            yield self.cache
        else:
            with closing(CallCache(self.cache)) as cache:
                yield cache

    def _count(self, usage: Usage) -> None:
        for field in fields(Usage):
            setattr(self.usage, field.name, getattr(self.usage, field.name) + getattr(usage, field.name))


async def _ask_all(
    generator: Generator,
    asked: Sequence[Item],
    request: Callable[[Item], Request],
    route: Callable[[Item], str],
    answers: dict[int, Completion | GenerationError],
    *,
    workers: int,
) -> None:
    """Fills ``answers``. No more requests exist at one time than there are workers: a collection may be large."""
    places = iter(range(len(asked)))

    async def work() -> None:
        for place in places:
            item = asked[place]
            try:
                answers[place] = await checked.complete(request(item), route=route(item))
            except GenerationError as error:
                answers[place] = error
            await asyncio.sleep(0)  # where all is cached nothing else would let a cancellation in

    async with generator:
        checked = CheckedLate(generator)
        tasks = [asyncio.create_task(work()) for _ in range(min(workers, len(asked)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def in_own_loop(main: Coroutine[None, None, None], look: Callable[[], object] = lambda: None) -> None:
    """Runs a coroutine in a thread and waits for its end, looking at how far it is now and then."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(main)
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="radar-llm") as thread:
            done = thread.submit(loop.run_until_complete, task)
            try:
                while wait([done], timeout=_POLL_SECONDS).not_done:
                    look()
            except BaseException:  # Ctrl-C comes to this thread, not to that one
                loop.call_soon_threadsafe(task.cancel)
                raise
            done.result()
            look()
    finally:
        loop.close()


def _keeping(cache: CallCache) -> str:
    if cache.path == ":memory:":
        return "they are in memory: name a file as cache to keep them, and to go on from there"
    return f"they are kept in {cache.path}: do the same again, and it goes on from there"
