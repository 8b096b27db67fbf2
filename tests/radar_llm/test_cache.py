"""The call cache: whole after any kill, shared by processes, traceable, and without secrets."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radar_llm.cache import CacheError, CallCache, call_key
from radar_llm.calls import Completion, Request
from radar_llm.prompts import Prompt, Sampling

OPENING = {"role": "system", "content": "You solve problems."}
PROMPT = Prompt((OPENING, {"role": "user", "content": "What is 2 + 2?"}), "thought", "v1")
REQUEST = Request(PROMPT, Sampling(stop=("\nStep",), choice=("True", "False"), logprobs=5))


def completion(key: str, text: str = "4") -> Completion:
    return Completion(text, "stop", 12, 3, {"True": 0.75, "False": 0.25}, key, False)


def test_an_answer_comes_back_as_it_was_marked_as_cached(tmp_path: Path) -> None:
    key = call_key("m", REQUEST, 0)
    cache = CallCache(tmp_path / "new" / "calls.sqlite")
    assert cache.get(key) is None
    cache.put(key, "m", REQUEST, 0, completion(key))
    cache.close()
    assert CallCache(tmp_path / "new" / "calls.sqlite").get(key) == replace(completion(key), is_cached=True)


@settings(max_examples=30, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(text: str) -> None:
    cache = CallCache(":memory:")
    prompt = Prompt((OPENING, {"role": "user", "content": text}), "thought", "v1")
    request = replace(REQUEST, prompt=prompt)
    key = call_key("m", request, 0)
    cache.put(key, "m", request, 0, completion(key, text))
    found, shown = cache.get(key), cache.read(key)
    assert found is not None and found.text == text
    assert shown is not None and shown["messages"] == list(prompt.messages)


@pytest.mark.parametrize(
    "other",
    [
        call_key("another", REQUEST, 0),
        call_key("m", REQUEST, 1),
        *(
            call_key("m", replace(REQUEST, **change), 0)
            for change in (
                {"prompt": replace(PROMPT, version="v2")},
                {"prompt": replace(PROMPT, messages=(OPENING, {"role": "user", "content": "What is 2 + 3?"}))},
                {"sampling": replace(REQUEST.sampling, temperature=0.7)},
                {"sampling": replace(REQUEST.sampling, top_p=0.9)},
                {"sampling": replace(REQUEST.sampling, top_k=0)},
                {"sampling": replace(REQUEST.sampling, max_tokens=9)},
                {"sampling": replace(REQUEST.sampling, stop=())},
                {"seed": 1},
                {"sampling": replace(REQUEST.sampling, choice=())},
                {"sampling": replace(REQUEST.sampling, logprobs=0)},
            )
        ),
    ],
)
def test_whatever_an_answer_depends_on_is_in_its_key(other: str) -> None:
    assert other != call_key("m", REQUEST, 0) == call_key("m", replace(REQUEST), 0)


def test_a_call_can_be_shown_with_its_prompt_parameters_and_answer() -> None:
    cache, key = CallCache(":memory:"), call_key("m", REQUEST, 3)
    cache.put(key, "m", REQUEST, 3, completion(key))
    shown = cache.read(key)
    assert shown is not None
    assert shown["messages"] == list(PROMPT.messages)
    assert (shown["model"], shown["prompt"], shown["version"], shown["sample"]) == ("m", "thought", "v1", 3)
    assert shown["completion"]["text"] == "4" and shown["choice"] == ["True", "False"]
    assert cache.read("0" * 32) is None


def test_what_prompts_have_in_common_is_kept_once_and_any_sqlite_tool_can_join_it(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    cache = CallCache(path)
    for number in range(20):
        messages = (OPENING, {"role": "user", "content": f"What is {number}?"})
        request = replace(REQUEST, prompt=replace(PROMPT, messages=messages))
        cache.put(call_key("m", request, 0), "m", request, 0, completion("", str(number)))
    database = sqlite3.connect(path)
    assert database.execute("SELECT count(*) FROM openings").fetchone() == (1,)
    opening, message = database.execute("SELECT opening, message FROM prompts WHERE answer = '7'").fetchone()
    assert (json.loads(opening), message) == ([OPENING], "What is 7?")


def test_the_first_answer_of_a_key_stays() -> None:
    cache, key = CallCache(":memory:"), call_key("m", REQUEST, 0)
    for text in ("first", "second"):
        cache.put(key, "m", REQUEST, 0, completion(key, text))
    found = cache.get(key)
    assert found is not None and found.text == "first" and len(cache) == 1


def test_a_process_that_is_killed_leaves_every_call_that_it_put(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    program = (
        "import sys; from tests.radar_llm.test_cache import *\n"
        "cache = CallCache(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    key = call_key('m', REQUEST, number)\n"
        "    cache.put(key, 'm', REQUEST, number, completion(key))\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    said = [line for line in process.stdout.read().split("\n")[:-1] if line]
    process.wait()
    cache = CallCache(path)
    assert len(said) > 5
    assert all(cache.get(call_key("m", REQUEST, number)) for number in range(int(said[-1]) + 1))
    assert cache._database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_may_write_one_cache(tmp_path: Path) -> None:
    first, second = CallCache(tmp_path / "calls.sqlite"), CallCache(tmp_path / "calls.sqlite")
    for number in range(50):
        key = call_key("m", REQUEST, number)
        (first, second)[number % 2].put(key, "m", REQUEST, number, completion(key))
    assert len(first) == len(second) == 50


def test_caches_of_shards_become_one(tmp_path: Path) -> None:
    keys = [call_key("m", REQUEST, number) for number in range(4)]
    for shard, numbers in enumerate([(0, 1), (1, 2, 3)]):
        cache = CallCache(tmp_path / f"{shard}.sqlite")
        for number in numbers:
            cache.put(keys[number], "m", REQUEST, number, completion(keys[number], f"{shard}"))
        cache.close()
    merged = CallCache(tmp_path / "merged.sqlite")
    merged.merge([tmp_path / "0.sqlite", tmp_path / "1.sqlite"])
    assert [merged.get(key).text for key in keys] == ["0", "0", "1", "1"]  # type: ignore[union-attr]
    assert merged.read(keys[3])["messages"] == list(PROMPT.messages)  # type: ignore[index]
    with pytest.raises(CacheError, match="no such call cache"):
        merged.merge([tmp_path / "2.sqlite"])


def test_a_cache_that_is_held_by_another_program_is_not_taken_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CallCache(tmp_path / "calls").close()
    holder, connect = sqlite3.connect(tmp_path / "calls"), sqlite3.connect
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(path, **options | {"timeout": 0}))
    with pytest.raises(CacheError, match=r"calls cannot be opened now \(database is locked\).*again"):
        CallCache(tmp_path / "calls")
    holder.close()
    assert len(CallCache(tmp_path / "calls")) == 0


def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("my notes, much longer than the header of a database " * 20)
    other = tmp_path / "other.sqlite"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE mine (x)")
    database.close()
    newer = tmp_path / "newer.sqlite"
    CallCache(newer).close()
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 99")
    database.close()
    for path, said in ((text, "not a database"), (other, "version is 0"), (newer, "version is 99")):
        with pytest.raises(CacheError, match=f"{path.name} is no call cache.*{said}"):
            CallCache(path)
    assert text.read_text().startswith("my notes")
    assert sqlite3.connect(other).execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
