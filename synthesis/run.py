"""A run and its folder: problems and a corpus in, finished problems, calls and indexes in one place.

The folder of a run holds ``settings.yaml``, ``problems.sqlite`` (:mod:`synthesis.store`), ``calls.sqlite``
(:mod:`radar_llm.cache`) and ``theorems/``, what the retriever made of the corpus. A shard of a run has such a folder of
its own, ``shard-3-of-16``, inside it; :func:`merge` brings them together.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from synthesis.engine import RunReport, Stop
from synthesis.engine import run as run_engine
from synthesis.problems import Problem, read_problems
from synthesis.progress import Silent, showing
from synthesis.settings import RetrieverSettings, Settings, SettingsError, differences
from synthesis.solve import Parts
from synthesis.store import Store

if TYPE_CHECKING:
    from radar_answers import Verifier
    from radar_llm import Generator
    from synthesis.retriever import Theorems

SETTINGS_FILE, STORE_FILE, CACHE_FILE, THEOREMS_FOLDER = "settings.yaml", "problems.sqlite", "calls.sqlite", "theorems"

_SHARD = re.compile(r"shard-\d+-of-[1-9]\d*")

T = TypeVar("T")


def synthesize(
    problems: str | Path | Iterable[Problem | Mapping[str, Any]],
    corpus: str | Path | Mapping[str, str] | Iterable[Mapping[str, Any]],
    output: str | Path,
    *,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    theorems: Theorems | None = None,
    verifier: Verifier | None = None,
    shard: tuple[int, int] = (0, 1),
    api_key: str | None = None,
    progress: bool = True,
) -> RunReport:
    """Searches for solutions of problems and keeps every tree (paper §4); called again it goes on where it was.

    SIGINT or SIGTERM end it: the first finishes the problems under way, the second doesn't.

    Args:
        problems: A file of JSON lines, or records; see :func:`synthesis.problems.read_problems`.
        corpus: The theorems: a file of JSON lines, texts by docno, or records.
        output: The run's folder.
        settings: The paper's by default. Their ``problems`` and ``corpus`` are not looked at; the folder's settings
            name the files given here.
        theorems: What searches the corpus, instead of what ``settings.retriever`` says. The configuration's digest
            doesn't know what it is: give each retriever a folder of its own.
        verifier: What compares answers, instead of what ``settings.verifier`` says.
        shard: ``(i, n)``: every n-th problem beginning with number i, counted from 0.
        api_key: For servers that want one; it is not stored.
        progress: Whether to show how it stands on stderr.

    Returns:
        What it came to, whether or not all problems are done.

    Raises:
        ValueError: For a problem, theorem or setting that is not right, or a folder of other settings, another corpus,
            or another problem under the same id.
        ServerError: If the language model cannot be asked; what is finished is kept.
    """
    checked = read_problems(problems, without_answers=settings.consensus.samples > 0)
    texts = read_theorems(corpus)
    folder = shard_folder(Path(output), shard)
    settings = with_sources(settings, folder, problems, corpus)
    stop = Stop()
    with locked(folder), claimed(folder, settings, texts, checked) as (store, configuration):

        async def check() -> None:
            async with open_generator(settings, folder, api_key) as generator:
                await generator.check()

        if not all(store.has(problem.id, configuration) for problem in checked):
            finish(check)  # before the corpus is indexed, which may take an hour
        searched = theorems or make_theorems(settings.retriever, texts, folder / THEOREMS_FOLDER, api_key)

        async def go() -> RunReport:
            async with AsyncExitStack() as stack:
                generator = await stack.enter_async_context(open_generator(settings, folder, api_key))
                checker = verifier
                if checker is None:
                    checker = await stack.enter_async_context(open_verifier(settings))
                shown = stack.enter_context(showing() if progress else nullcontext(Silent()))
                return await run_engine(
                    checked,
                    Parts(generator, searched, checker, settings, configuration),
                    store,
                    concurrency=settings.concurrency,
                    shard=shard,
                    longest_first=settings.longest_first,
                    budget=settings.budget,
                    stop=stop,
                    progress=shown,
                )

        with stop.on_signals():
            return finish(go, stop)


def read_theorems(corpus: str | Path | Mapping[str, str] | Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the theorems' texts by docno, checked.

    Raises:
        CorpusError: For a theorem that cannot be used.
        OSError: If the file cannot be read.
    """
    from synthesis.retriever.corpus import read_corpus, theorem_texts

    return read_corpus(corpus) if isinstance(corpus, str | Path) else theorem_texts(corpus)


def make_theorems(
    settings: RetrieverSettings, texts: Mapping[str, str], folder: Path, api_key: str | None = None
) -> Theorems:
    """Returns what ranks the theorems, its index built or opened in a folder.

    Raises:
        ConnectionError: If an endpoint isn't reached or refuses.
        ValueError: If the folder holds the vectors of another model.
    """
    from synthesis.retriever import BM25Theorems, EncoderTheorems, EndpointTheorems

    if settings.kind == "bm25":
        return BM25Theorems(texts, folder, batch=settings.batch)
    if settings.kind == "encoder":
        from torch_radar import Encoder

        return EncoderTheorems(texts, Encoder(settings.model), folder / "vectors", batch=settings.batch)
    assert settings.model is not None  # checked when the settings were made
    return EndpointTheorems(
        texts,
        settings.url,
        settings.model,
        folder / "vectors",
        query_prefix=settings.query_prefix,
        theorem_prefix=settings.theorem_prefix,
        api_key=api_key,
        batch=settings.batch,
    )


@asynccontextmanager
async def open_generator(settings: Settings, folder: Path, api_key: str | None) -> AsyncIterator[Generator]:
    """Opens the client of the language model, with the call cache of a run's folder."""
    from radar_llm import Generator
    from radar_llm.cache import CallCache

    chosen = settings.generator
    cache = CallCache(folder / CACHE_FILE)
    try:
        async with Generator(
            chosen.urls,
            chosen.model,
            in_flight=chosen.in_flight,
            cache=cache,
            api_key=api_key,
            timeout=chosen.timeout,
            retries=chosen.retries,
            queue_limit=chosen.queue_limit,
        ) as generator:
            yield generator
    finally:
        cache.close()


def open_verifier(settings: Settings) -> Verifier:
    """Returns the verifier; an asynchronous context manager."""
    from radar_answers import Verifier

    return Verifier(settings.verifier.workers, settings.verifier.deadline)


def with_sources(settings: Settings, folder: Path, problems: object, corpus: object) -> Settings:
    """Returns settings that name a run's files; for records in memory, the file that the folder's settings name."""
    written = folder / SETTINGS_FILE

    def path_of(name: str, source: object) -> str | None:
        if isinstance(source, str | Path):
            return str(Path(source).absolute())
        return getattr(Settings.load(written), name) if written.is_file() else None

    return replace(settings, problems=path_of("problems", problems), corpus=path_of("corpus", corpus))


@contextmanager
def claimed(
    folder: Path, settings: Settings, texts: Mapping[str, str], problems: Iterable[Problem]
) -> Iterator[tuple[Store, str]]:
    """Opens a folder's store for a run and notes its settings there; gives the store and the configuration's digest.

    Raises:
        SettingsError: If the folder is of another configuration, or holds another problem under an id of these; it
            names what differs.
    """
    from synthesis.retriever.corpus import corpus_digest

    configuration = settings.digest(corpus_digest(texts))
    written = folder / SETTINGS_FILE
    with Store(folder / STORE_FILE) as store:
        if others := store.configurations().keys() - {configuration}:
            before = Settings.load(written).identity() if written.is_file() else {}
            changed = sorted(differences(before, settings.identity())) if before else []
            raise SettingsError(
                f"{folder} holds problems of another configuration ({', '.join(others)}): "
                f"{'; '.join(changed) or 'the corpus is another one, or prompts have changed'}. Choose another folder"
            )
        for problem in problems:
            _require_unchanged(problem, store, configuration)
        settings.save(written)
        yield store, configuration


def _require_unchanged(problem: Problem, store: Store, configuration: str) -> None:
    """Makes sure that a problem is still what it was when it was solved."""
    before = store.problem(problem.id, configuration)
    now = [problem.text, problem.answer, None if problem.choices is None else list(problem.choices)]
    if before is None or before == now:
        return
    names = ("the text", "the answer", "the choices")
    changed = [name for name, old, new in zip(names, before, now, strict=True) if old != new]
    raise SettingsError(
        f"{store.path} holds another problem {problem.id!r}: {' and '.join(changed)} changed since it was solved. Give "
        "the changed problem another id, or choose another folder"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the lock ends with the process, however that ends.

    Raises:
        SettingsError: If another run is in there.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise SettingsError(f"another run is at work in {folder}: wait for it, or choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def requiring_store(folder: Path) -> Store:
    """Opens the store of a run that there is.

    Raises:
        SettingsError: If there is none.
    """
    if not (folder / STORE_FILE).is_file():
        raise SettingsError(f"{folder} holds no run: begin one by radar synthesize run, or merge its shards first")
    return Store(folder / STORE_FILE)


def shard_folder(output: Path, shard: tuple[int, int]) -> Path:
    """Returns the folder of a shard of a run."""
    index, shards = shard
    return output if shards == 1 else output / f"shard-{index}-of-{shards}"


def merge(output: Path, folders: Iterable[Path] = ()) -> int:
    """Brings the shards of a run together in its folder; doing it again, after more was done, adds what is new.

    All is checked before anything is written.

    Args:
        output: The run's folder.
        folders: Those of shards; by default all shards inside it, of which none may be absent.

    Returns:
        The number of problems that are there now.

    Raises:
        ValueError: If there is no shard, one is absent, or they are of different settings, corpora or prompts.
        OSError: If a shard's file is missing or no store.
    """
    from radar_llm.cache import CacheError, CallCache

    parts = sorted(folders) or _shards(output)
    with locked(output):
        places = [output, *parts] if (output / STORE_FILE).is_file() else parts
        settings = Settings.load(places[0] / SETTINGS_FILE)
        configurations: set[str] = set()
        for place in places:
            of_place = Settings.load(place / SETTINGS_FILE)
            if changed := sorted(differences(settings.identity(), of_place.identity())):
                raise SettingsError(f"{places[0]} and {place} are of different settings: {'; '.join(changed)}")
            with requiring_store(place) as store:
                configurations |= store.configurations().keys()
            if len(configurations) > 1:
                raise SettingsError(f"{place} is of another corpus or other prompts than {places[0]}: keep them apart")
        for part in parts:
            if not (part / CACHE_FILE).is_file():
                raise CacheError(f"{part / CACHE_FILE}: there is no such call cache")
            CallCache(part / CACHE_FILE).close()  # it is one, of this version
        with Store(output / STORE_FILE) as store:
            store.merge(part / STORE_FILE for part in parts)
            cache = CallCache(output / CACHE_FILE)
            try:
                cache.merge(part / CACHE_FILE for part in parts)
            finally:
                cache.close()
            settings.save(output / SETTINGS_FILE)
            return len(store)


def _shards(output: Path) -> list[Path]:
    """Returns the folders of a run's shards.

    Raises:
        SettingsError: If there is none, or one is absent.
    """
    found = {path.name: path for path in output.glob("shard-*-of-*") if path.is_dir()}
    if not found:
        raise SettingsError(f"{output} has no shards (folders named shard-0-of-4): name their folders")
    numbers = {int(name.rpartition("-")[2]) for name in found if _SHARD.fullmatch(name)}
    absent = [shard_folder(output, (index, n)).name for n in sorted(numbers) for index in range(n)]
    absent = [name for name in absent if name not in found]
    if absent:
        raise SettingsError(f"{output} lacks {', '.join(absent)}: run them first, or name the folders to be merged now")
    return [found[name] for name in sorted(found)]


def finish(work: Callable[[], Coroutine[Any, Any, T]], stop: Stop | None = None) -> T:
    """Runs a coroutine to its end, also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: asyncio.run(work()))
        while True:
            try:
                return future.result()
            except KeyboardInterrupt:
                if stop is None:
                    raise
                stop.ask()
