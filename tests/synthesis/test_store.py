"""The store: durable, append-only, one record a problem and configuration."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from synthesis.store import SCHEMA, Store, StoreError, is_solved
from tests.synthesis.records import records, solved


def test_records_come_back_as_they_were_in_the_order_they_were_added(tmp_path: Path):
    kept = [solved(f"p{number}") for number in (3, 1, 2)]
    with Store(tmp_path / "store") as store:
        assert [store.add(record) for record in kept] == [True] * 3
        assert list(store) == kept and len(store) == 3
    with Store(tmp_path / "store") as store:
        assert list(store) == kept


@given(records())
@settings(max_examples=50)
def test_any_record_survives(record: dict[str, Any]):
    with Store(":memory:") as store:
        store.add(record)
        assert list(store) == store.get(record["problem_id"]) == [record]


def test_a_problem_is_kept_once_for_each_configuration(tmp_path: Path):
    first, again, other = solved("p"), solved("p") | {"seconds": 9.9}, solved("p") | {"configuration": "beef"}
    with Store(tmp_path / "store") as store:
        assert [store.add(record) for record in (first, again, other)] == [True, False, True]
        assert list(store) == store.get("p") == [first, other]
        assert store.configurations() == {"c0ffee": 1, "beef": 1}
        assert store.has("p", "beef") and not store.has("p", "cafe") and not store.has("q", "beef")


def test_a_problem_is_solved_if_a_rollout_was_rewarded(tmp_path: Path):
    right, wrong = solved("right"), solved("wrong")
    wrong["rollouts"] = [path for path in wrong["rollouts"] if wrong["nodes"][path[-1]]["reward"] == 0.0]
    assert is_solved(right) and not is_solved(wrong)
    with Store(tmp_path / "store") as store:
        store.add(right), store.add(wrong)
        assert [store.solved(name, "c0ffee") for name in ("right", "wrong", "absent")] == [True, False, None]


def test_shards_are_merged_without_doubles(tmp_path: Path):
    for name, ids in (("a", "123"), ("b", "345")):
        with Store(tmp_path / name) as store:
            for number in ids:
                store.add(solved(number))
    with Store(tmp_path / "whole") as store:
        assert store.merge([tmp_path / "a", tmp_path / "b"]) == 5
        assert store.merge([tmp_path / "b"]) == 0
        assert [record["problem_id"] for record in store] == list("12345")


def test_merging_what_is_not_there_makes_no_file(tmp_path: Path):
    with Store(tmp_path / "store") as store, pytest.raises(StoreError, match="there is no such store"):
        store.merge([tmp_path / "absent"])
    assert not (tmp_path / "absent").exists()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path):
    Store(tmp_path / "store").close()
    database = sqlite3.connect(tmp_path / "store")
    database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    database.close()
    with pytest.raises(StoreError, match=f"schema {SCHEMA + 1}.*update"):
        Store(tmp_path / "store")


def test_other_files_are_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "text").write_text("not a database, and longer than a header of one is" * 9)
    database = sqlite3.connect(tmp_path / "other")
    database.execute("CREATE TABLE calls (key)")
    database.close()
    for name in ("text", "other"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreError, match="is no store of problems"):
            Store(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_store_that_is_held_by_another_program_is_not_taken_for_something_else(tmp_path: Path, monkeypatch):
    Store(tmp_path / "store").close()
    holder, connect = sqlite3.connect(tmp_path / "store"), sqlite3.connect
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(path, **options | {"timeout": 0}))
    with pytest.raises(StoreError, match=r"store.*cannot be opened now \(database is locked\).*again"):
        Store(tmp_path / "store")
    holder.close()
    assert list(Store(tmp_path / "store")) == []


def test_any_sqlite_tool_reads_the_records(tmp_path: Path):
    with Store(tmp_path / "store") as store:
        store.add(solved("p"))
        database = sqlite3.connect(f"file:{tmp_path / 'store'}?mode=ro", uri=True)
        query = "SELECT problem_id, schema, json_extract(record, '$.nodes[1].kind') FROM problems"
        assert database.execute(query).fetchall() == [("p", 1, "thought")]
        database.close()


def _add_and_wait(path: Path, added) -> None:
    store = Store(path)
    store.add(solved("p"))
    added.set()
    time.sleep(60)


def test_a_record_outlives_its_writer_and_is_seen_by_readers_meanwhile(tmp_path: Path):
    processes = multiprocessing.get_context("fork")
    added = processes.Event()
    writer = processes.Process(target=_add_and_wait, args=(tmp_path / "store", added))
    writer.start()
    assert added.wait(30)
    with Store(tmp_path / "store") as store:
        assert store.has("p", "c0ffee")
    writer.kill()
    writer.join()
    with Store(tmp_path / "store") as store:
        assert list(store) == [solved("p")]


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path):
    with Store(tmp_path / "store") as store:
        store.add(solved("p"))
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.add(solved("q") | {"padding": "x" * 100_000})
        assert list(store) == [solved("p")]
        store._database.execute("PRAGMA max_page_count = 1000000")
        assert store.add(solved("q"))


def test_going_through_the_store_holds_one_record_at_a_time(tmp_path: Path):
    with Store(tmp_path / "store") as store:
        for number in range(100):
            store.add(solved(str(number)) | {"padding": "x" * 50_000})
        tracemalloc.start()
        assert sum(1 for _ in store) == 100
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000
