"""Mining that is stopped or killed: what is gone on with, what is refused, and that nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.mining import DOCNOS, TEXTS, ByHand, document_of, files, simple_examples, training_set
from torch_radar import Encoder
from torch_radar.vectors import VectorStore
from training.data import DataError, Documents, Example, TrainingSet, read_examples
from training.negatives import mine
from training.negatives.journal import JournalError, journal
from training.negatives.miners import BM25Miner, EncoderMiner


@pytest.mark.parametrize("blocks", range(5))
@pytest.mark.parametrize("cut", [b"", b'{"query_id": "q', b'{"query_id": "q0"}\n'])
def test_a_stopped_run_ends_like_one_that_was_not(tmp_path: Path, blocks: int, cut: bytes) -> None:
    data = training_set(tmp_path, simple_examples(9))
    (tmp_path / "a").mkdir()
    mine(data, [ByHand(DOCNOS)], 3, tmp_path / "a" / "out.jsonl", batch=2, progress=False)
    output = tmp_path / "b" / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        mine(data, [ByHand(DOCNOS, calls=blocks)], 3, output, batch=2, progress=False)
    assert not output.exists()
    with open(tmp_path / "b" / "out.jsonl.mining" / "data", "ab") as file:
        file.write(cut)
    mine(data, [ByHand(DOCNOS)], 3, output, batch=2, progress=False)
    assert files(tmp_path / "b") == files(tmp_path / "a") and not (tmp_path / "b" / "out.jsonl.mining").exists()


def other_example(folder: Path) -> TrainingSet:
    return training_set(folder / "other", [*simple_examples(8), Example("q8", "another", "question", "d0#0")])


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"how_many": 4}, "how_many: there 3, asked 4"),
        ({"depth": 50}, "depth"),
        ({"margin": None}, "margin"),
        ({"seed": 1}, "seed"),
        ({"batch": 3}, "batch"),
        ({"ranked": True}, "ranked"),
        ({"texts": "inline"}, "texts"),
        ({"same_document": document_of}, "same_document"),
        ({"miners": [ByHand(DOCNOS[1:])]}, "miners"),
        ({"training_set": other_example}, "examples"),
    ],
)
def test_other_settings_refuse_to_go_on(tmp_path: Path, change: dict[str, Any], named: str, finished: bool) -> None:
    data = training_set(tmp_path, simple_examples(9))
    asked: dict[str, Any] = {"training_set": data, "how_many": 3, "batch": 2, "progress": False}
    asked |= {"output": tmp_path / "out.jsonl"}
    if finished:
        mine(miners=[ByHand(DOCNOS)], **asked)
    else:
        with pytest.raises(KeyboardInterrupt):
            mine(miners=[ByHand(DOCNOS, calls=2)], **asked)
    make: Callable[[Path], TrainingSet] | None = change.get("training_set")
    changed = change | ({"training_set": make(tmp_path)} if make else {})
    with pytest.raises(JournalError, match=named):
        mine(**({"miners": [ByHand(DOCNOS)]} | asked | changed))
    mine(miners=[ByHand(DOCNOS)], **asked)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 9


def test_a_file_of_another_origin_is_not_overwritten(tmp_path: Path) -> None:
    data = training_set(tmp_path, simple_examples(2))
    with pytest.raises(DataError, match="was not mined here"):
        mine(data, [ByHand(DOCNOS)], 3, tmp_path / "given.jsonl")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    data = training_set(tmp_path, simple_examples(2))
    with journal(tmp_path / "out.jsonl.mining", {}), pytest.raises(JournalError, match="another process"):
        mine(data, [ByHand(DOCNOS)], 3, tmp_path / "out.jsonl")


def test_a_journal_that_lost_bytes_is_refused(tmp_path: Path) -> None:
    with journal(tmp_path / "j", {}) as done:
        done.append(b"line\n", {"examples": 1})
    os.truncate(tmp_path / "j" / "data", 3)
    with pytest.raises(JournalError, match="delete"), journal(tmp_path / "j", {}):
        pass


FILE_OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.mkdir", "shutil.rmtree"}


def mine_slowly(data: TrainingSet, output: Path, ranked: bool) -> None:
    """In blocks of two; if ``ranked``, nothing is kept of the first: two of five examples are."""
    first = {data[row].positive for row in range(2)} if ranked else set()
    miner = ByHand([docno for docno in DOCNOS if docno not in first])
    mine(data, [miner], 3, output, batch=2, texts="beside", ranked=ranked, progress=False)


def mine_until_killed(data: TrainingSet, output: Path, ranked: bool, operation: int) -> None:
    """Mines in a process that is killed just before its n-th operation on files, and so without any cleaning up."""
    left = operation

    def hook(event: str, _: object) -> None:
        nonlocal left
        if event in FILE_OPERATIONS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    mine_slowly(data, output, ranked)


@pytest.mark.parametrize("ranked", [False, True])
def test_killed_before_any_of_its_file_operations_it_ends_with_the_same_bytes(tmp_path: Path, ranked: bool) -> None:
    data = training_set(tmp_path / "data", simple_examples(5))
    (tmp_path / "whole").mkdir()
    mine_slowly(data, tmp_path / "whole" / "out.jsonl", ranked)
    assert len((tmp_path / "whole" / "out.jsonl").read_text().splitlines()) == (2 if ranked else 5)
    fork = multiprocessing.get_context("fork")
    for operation in itertools.count(1):
        folder = tmp_path / str(operation)
        process = fork.Process(target=mine_until_killed, args=(data, folder / "out.jsonl", ranked, operation))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        mine_slowly(data, folder / "out.jsonl", ranked)
        assert files(folder) == files(tmp_path / "whole"), f"killed before file operation {operation}"
        assert not (folder / "out.jsonl.mining").exists()
    assert operation > (30 if ranked else 40)


def run_to_the_end(checkpoint: Path, data: Path, folder: Path) -> None:
    """What is killed: encodes the corpus, mines, and writes the documents."""
    documents = Documents.from_files(data / "documents.jsonl", data / "cache")
    examples = read_examples(data / "given.jsonl", documents, cache=data / "cache")
    encoder = EncoderMiner(documents, Encoder(checkpoint, device="cpu"), folder / "store", name="tiny", window=8)
    miners = [BM25Miner(documents), encoder]
    mine(examples, miners, 6, folder / "out.jsonl", batch=2, texts="beside", progress=False)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tiny_qwen2: Path, tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "killed"
    training_set(data, simple_examples(120))
    (data / "documents.jsonl").write_text(
        "".join(json.dumps({"docno": docno, "text": text}) + "\n" for docno, text in TEXTS.items())
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.test_mining_interrupted"])

    def start(where: Path) -> Any:
        process = context.Process(target=run_to_the_end, args=(tiny_qwen2, data, where))
        process.start()
        return process

    def written() -> list[tuple[str, int]]:
        return [(name, size) for name, size in sizes(folder) if "lock" not in name]

    whole = start(tmp_path / "whole")
    whole.join()
    rng = random.Random(11)
    for changes in (1, 2, 4, 8, 8, 16):
        process, before = start(folder), written()
        for _ in range(changes):
            while process.is_alive() and written() == before:
                time.sleep(0.001)
            before = written()
        process.join(rng.uniform(0, 0.02))
        process.kill()  # SIGKILL
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = start(folder)
    last.join()
    assert whole.exitcode == last.exitcode == 0
    assert files(folder) == files(tmp_path / "whole")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["store"]
    assert VectorStore.open(folder / "store").is_complete


def sizes(folder: Path) -> list[tuple[str, int]]:
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
            found.append((path.name, path.stat().st_size))
    return found
