"""A run's folder: what it remembers, what it refuses, and how those of shards become one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radar_llm.cache import CacheError, CallCache
from synthesis.engine import RunReport
from synthesis.run import CACHE_FILE, SETTINGS_FILE, STORE_FILE, merge, synthesize
from synthesis.settings import GeneratorSettings, Settings, SettingsError
from synthesis.store import Store
from tests.synthesis import solver
from tests.synthesis.parts import LiteralVerifier, WordTheorems, served, with_tree

PROBLEMS = solver.problems(4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url


def go(
    url: str, folder: Path, problems: Any = PROBLEMS, corpus: Any = None, settings: Settings | None = None, **shard: Any
) -> RunReport:
    texts = solver.theorems()
    settings = settings or with_tree(rollouts=1, max_depth=2)
    settings = replace(settings, generator=GeneratorSettings(urls=(url,), model="solver", retries=0))
    return synthesize(
        problems,
        texts if corpus is None else corpus,
        folder,
        settings=settings,
        theorems=WordTheorems(texts),
        verifier=LiteralVerifier(),  # type: ignore[arg-type]
        progress=False,
        **shard,
    )


def stored(folder: Path) -> list[str]:
    with Store(folder / STORE_FILE) as store:
        return sorted(record["problem_id"] for record in store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "-1"}, "the answer"),
        ({"problem": "Quite another question?"}, "the text"),
        ({"choices": ["1", "2"]}, "the choices"),
    ],
)
def test_a_changed_problem_under_an_old_id_is_refused_before_any_work(url, tmp_path, change, said):
    go(url, tmp_path, PROBLEMS[:2])
    before = (tmp_path / SETTINGS_FILE).read_bytes()
    changed = [PROBLEMS[0], PROBLEMS[1] | change, *PROBLEMS[2:]]
    with pytest.raises(SettingsError, match=f"{PROBLEMS[1]['id']}.*{said}.*another id.*another folder"):
        go("http://127.0.0.1:9/v1", tmp_path, changed)
    assert stored(tmp_path) == sorted(problem["id"] for problem in PROBLEMS[:2])
    assert (tmp_path / SETTINGS_FILE).read_bytes() == before
    assert go(url, tmp_path).kept == 2


def test_a_folder_remembers_the_files_it_was_given_and_records_in_memory_leave_them(
    url, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    monkeypatch.chdir(tmp_path)
    go(url, tmp_path / "memory")
    assert Settings.load(tmp_path / "memory" / SETTINGS_FILE).problems is None
    corpus = Path(solver.__file__).with_name("theorems.jsonl")
    elsewhere = replace(with_tree(rollouts=1, max_depth=2), problems="/nowhere", corpus="/nowhere")
    go(url, tmp_path / "run", "problems.jsonl", corpus, elsewhere)
    wanted = (str(tmp_path / "problems.jsonl"), str(corpus))
    for _ in range(2):
        kept = Settings.load(tmp_path / "run" / SETTINGS_FILE)
        assert (kept.problems, kept.corpus) == wanted
        go(url, tmp_path / "run")


def test_a_foreign_folder_is_refused_and_the_run_is_as_it_was(url, tmp_path):
    go(url, tmp_path / "run")
    go(url, tmp_path / "seed", settings=replace(with_tree(rollouts=1, max_depth=2), seed=1))
    texts = solver.theorems()
    go(url, tmp_path / "corpus", corpus=dict(list(texts.items())[:-1]))
    for foreign, said in (("seed", "seed was 0 and is 1"), ("corpus", "another corpus or other prompts")):
        with pytest.raises(SettingsError, match=said):
            merge(tmp_path / "run", [tmp_path / foreign])
        with Store(tmp_path / "run" / STORE_FILE) as store:
            assert len(store) == 4 and len(store.configurations()) == 1
    assert go(url, tmp_path / "run").kept == 4


def test_an_absent_shard_is_named_unless_folders_are(url, tmp_path):
    for index in (0, 2):
        go(url, tmp_path, shard=(index, 4))
    with pytest.raises(SettingsError, match="shard-1-of-4, shard-3-of-4"):
        merge(tmp_path)
    assert not (tmp_path / STORE_FILE).exists()
    assert merge(tmp_path, [tmp_path / "shard-0-of-4"]) == 1
    for index in (1, 3):
        go(url, tmp_path, shard=(index, 4))
    assert merge(tmp_path) == 4


def test_a_shard_without_its_calls_is_refused_before_anything_is_written(url, tmp_path):
    for index in range(2):
        go(url, tmp_path, shard=(index, 2))
    calls = tmp_path / "shard-1-of-2" / CACHE_FILE
    calls.rename(tmp_path / "aside")
    with pytest.raises(CacheError, match="no such call cache"):
        merge(tmp_path)
    assert not (tmp_path / STORE_FILE).exists() and not (tmp_path / CACHE_FILE).exists() and not calls.exists()
    (tmp_path / "aside").rename(calls)
    assert merge(tmp_path) == 4
    assert len(CallCache(tmp_path / CACHE_FILE)) > 0
