"""Our search gives what mteb's own gives, with and without exclusions, and encodes nothing twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb.models.search_wrappers import SearchEncoderWrapper

from mteb_radar import RadarEncoder, RadarSearch, devices, local_task
from mteb_radar.search import masks
from tests.mteb_radar.conftest import write_jsonl
from torch_radar import Encoder
from torch_radar.vectors import VectorStore

ENCODE = {"batch_size": 8, "show_progress_bar": False}


def _rank(model: Any, task: Any, *, top_k: int = 1000, top_ranked: Any = "the task's") -> dict[str, dict[str, float]]:
    (split, data), *_ = task.dataset["default"].items()
    common = {"task_metadata": task.metadata, "hf_split": split, "hf_subset": "default", "encode_kwargs": ENCODE}
    model.index(data["corpus"], num_proc=None, **common)
    chosen = data["top_ranked"] if top_ranked == "the task's" else top_ranked
    return model.search(data["queries"], top_k=top_k, top_ranked=chosen, num_proc=None, **common)


def _assert_equal(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> None:
    assert ours.keys() == theirs.keys()
    for qid, scores in theirs.items():
        assert ours[qid].keys() == scores.keys()
        np.testing.assert_allclose([ours[qid][d] for d in scores], list(scores.values()), atol=1e-5)


@pytest.fixture(scope="module")
def stock(tiny_qwen2: Path) -> SearchEncoderWrapper:
    return SearchEncoderWrapper(RadarEncoder(tiny_qwen2), corpus_chunk_size=25)


@pytest.fixture(scope="module")
def ours(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> RadarSearch:
    return RadarSearch(tiny_qwen2, folder=tmp_path_factory.mktemp("vectors"))


@pytest.mark.parametrize("top_k", [7, 50])
def test_with_exclusions_it_gives_mtebs_ranking_and_scores(stock, ours, bright_folder: Path, top_k: int) -> None:
    task = local_task(bright_folder)
    _assert_equal(_rank(ours, task, top_k=top_k), _rank(stock, task, top_k=top_k))


@pytest.mark.parametrize("top_k", [1, 7])
def test_without_exclusions_it_gives_mtebs_ranking_and_scores(stock, ours, bright_folder: Path, top_k: int) -> None:
    task = local_task(bright_folder, long=True)
    _assert_equal(_rank(ours, task, top_k=top_k), _rank(stock, task, top_k=top_k))


def test_a_few_candidates_each_give_mtebs_ranking(stock, ours, bright_folder: Path) -> None:
    task = local_task(bright_folder)
    qids = task.dataset["default"]["standard"]["queries"]["id"]
    few = {qid: [f"d{(3 * i + j) % 60}" for j in range(5)] for i, qid in enumerate(qids)}
    _assert_equal(_rank(ours, task, top_ranked=few), _rank(stock, task, top_ranked=few))


def test_a_query_without_candidates_gets_none(ours, bright_folder: Path) -> None:
    task = local_task(bright_folder)
    ranking = _rank(ours, task, top_ranked={"q0": ["d1", "d2"]})
    assert ranking["q0"].keys() == {"d1", "d2"}
    assert ranking["q1"] == {}


def test_an_excluded_document_is_in_no_ranking(ours, bright_folder: Path) -> None:
    ranking = _rank(ours, local_task(bright_folder))
    assert len(ranking["q2"]) == 58
    assert not {"d15", "d16"} & ranking["q2"].keys()


def test_the_complement_of_a_long_list_is_excluded_and_a_short_list_is_kept_to() -> None:
    docnos = ["a", "b", "c", "d", "e"]
    exclude, candidates = masks(["q", "r", "s"], docnos, {"q": ["a", "b", "c", "e"], "r": ["d"], "s": docnos})
    assert exclude == [["d"], None, []]
    assert candidates == [None, ["d"], None]


@settings(deadline=None)
@given(
    count=st.integers(1, 700),
    left_out=st.sets(st.integers(0, 699), max_size=40),
    order=st.sampled_from(["as they come", "backwards", "one twice", "one stranger at the end"]),
)
def test_masks_leave_what_the_list_leaves_whatever_its_order(count: int, left_out: set[int], order: str) -> None:
    docnos = [f"d{place:03}" for place in range(count)]
    allowed = [docno for place, docno in enumerate(docnos) if place not in left_out]
    if order == "backwards":
        allowed.reverse()
    elif order == "one twice" and allowed:
        allowed.append(allowed[0])
    elif order == "one stranger at the end":
        with pytest.raises(ValueError, match="may get document 'z'"):
            masks(["q"], docnos, {"q": [*allowed, "z"]})
        return
    (exclude,), (candidates,) = masks(["q"], docnos, {"q": allowed})
    remaining = set(docnos) if candidates is None else set(candidates)
    assert remaining - set(exclude or ()) == set(allowed)
    assert (exclude is None) != (candidates is None)


def test_a_candidate_that_the_corpus_lacks_is_named() -> None:
    for allowed in (["a", "b", "z"], ["z"]):
        with pytest.raises(ValueError, match="query 'q' may get document 'z'"):
            masks(["q"], ["a", "b", "c"], {"q": allowed})


def test_one_corpus_is_encoded_once_in_whatever_order_and_task_it_comes(
    tiny_qwen2: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RadarSearch(tiny_qwen2, folder=tmp_path / "vectors")
    first = _rank(model, local_task(bright_folder))
    reversed_folder = tmp_path / "Reversed"
    reversed_folder.mkdir()
    for name in ("documents", "examples"):
        lines = (bright_folder / f"{name}.jsonl").read_text().splitlines()
        (reversed_folder / f"{name}.jsonl").write_text("\n".join(reversed(lines)))

    def refuse(*_: Any) -> None:
        raise AssertionError("documents were encoded again")

    again = RadarSearch(tiny_qwen2, folder=tmp_path / "vectors")
    monkeypatch.setattr(again.encoder, "encode_documents", refuse)
    second = _rank(again, local_task(reversed_folder))
    assert {qid: list(scores)[:10] for qid, scores in second.items()} == {
        qid: list(scores)[:10] for qid, scores in first.items()
    }


def test_another_text_is_another_corpus(ours, bright_folder: Path, tmp_path: Path) -> None:
    _rank(ours, local_task(bright_folder))
    before = set(ours.folder.iterdir())
    folder = tmp_path / "Changed"
    folder.mkdir()
    (folder / "examples.jsonl").write_text((bright_folder / "examples.jsonl").read_text())
    (folder / "documents.jsonl").write_text(
        (bright_folder / "documents.jsonl").read_text().replace("Theorem 7:", "Lemma 7:")
    )
    _rank(ours, local_task(folder))
    assert len(set(ours.folder.iterdir()) - before) == 1


def test_a_stopped_run_goes_on_at_its_window_and_ends_with_the_same_vectors(
    tiny_qwen2: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mteb_radar.search.WINDOW", 16)
    task = local_task(bright_folder)
    whole = RadarSearch(tiny_qwen2, folder=tmp_path / "whole")
    expected = _rank(whole, task)

    stopped = RadarSearch(tiny_qwen2, folder=tmp_path / "stopped")
    encode, calls = stopped.encoder.encode_documents, []

    def until_the_third(texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(stopped.encoder, "encode_documents", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        _rank(stopped, task)
    resumed = RadarSearch(tiny_qwen2, folder=tmp_path / "stopped")
    encode_again, again = resumed.encoder.encode_documents, []
    monkeypatch.setattr(resumed.encoder, "encode_documents", lambda t: (again.append(len(t)), encode_again(t))[1])
    assert _rank(resumed, task) == expected
    assert again == [16, 12]  # of 60, 32 were stored
    (one,), (other,) = (tmp_path / "whole").iterdir(), (tmp_path / "stopped").iterdir()
    assert (VectorStore.open(one).vectors(0, 60) == VectorStore.open(other).vectors(0, 60)).all()


def test_two_workers_encode_the_same_vectors_as_one_and_nobody_loads_a_model_beside_theirs(
    tiny_qwen2: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is a process, the other, to save the time that another one takes to start, a thread."""
    kinds = [lambda n, mp_context, **initial: ThreadPoolExecutor(n, **initial), ProcessPoolExecutor]
    monkeypatch.setattr(devices, "ProcessPoolExecutor", lambda *args, **settings: kinds.pop()(*args, **settings))
    monkeypatch.setattr(devices, "_encoder", None)
    monkeypatch.setattr("mteb_radar.search.WINDOW", 16)
    task = local_task(bright_folder)
    two = RadarSearch(tiny_qwen2, folder=tmp_path / "two", devices=("cpu", "cpu"))
    search = two.search

    def searching(*args: Any, **settings: Any) -> Any:
        assert "loaded" not in vars(two.encoder.model)
        return search(*args, **settings)

    monkeypatch.setattr(two, "search", searching)
    one = RadarSearch(tiny_qwen2, folder=tmp_path / "one")
    assert _rank(two, task) == _rank(one, task)
    assert not kinds


def test_after_an_error_workers_drop_the_windows_that_wait(tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Future[np.ndarray]] = []

    class Busy(ThreadPoolExecutor):
        """Starts nothing."""

        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__(1)
            self.submit(time.sleep, 0.2)

        def submit(self, *args: Any, **settings: Any) -> Any:
            waiting.append(super().submit(*args, **settings))
            return waiting[-1]

    def windows() -> Iterator[list[str]]:
        yield from (["a"], ["b"], ["c"])
        raise KeyboardInterrupt

    monkeypatch.setattr(devices, "ProcessPoolExecutor", Busy)
    with pytest.raises(KeyboardInterrupt):
        list(devices.encode_windows(Encoder(tiny_qwen2), windows(), ("cpu", "cpu")))
    assert [future.cancelled() for future in waiting] == [False, False, True, True, True]


def test_vectors_that_cannot_be_stored_stop_the_workers(
    tiny_qwen2: Path, bright_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = []

    def encode(*_: Any) -> Iterator[np.ndarray]:
        try:
            yield np.ones((60, 64), dtype=np.float32)
        finally:
            stopped.append(True)

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("mteb_radar.search.encode_windows", encode)
    monkeypatch.setattr(VectorStore, "append", fail)
    with pytest.raises(OSError, match="the disk is full") as error:
        _rank(RadarSearch(tiny_qwen2), local_task(bright_folder))
    assert stopped
    assert error.traceback  # it holds what was running, and nothing is left to its end


def test_two_documents_of_one_id_are_refused_before_anything_is_encoded(tiny_qwen2: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    folder = tmp_path / "Twice"
    folder.mkdir()
    write_jsonl(folder / "documents.jsonl", [{"id": "a", "content": "x"}])
    write_jsonl(folder / "examples.jsonl", [{"id": "q", "query": "y", "gold_ids": ["a"]}])
    task = local_task(folder)
    task.dataset["default"]["standard"]["corpus"] = Dataset.from_dict({"id": ["a", "a"], "text": ["x", "z"]})
    with pytest.raises(ValueError, match="Twice has two documents with the id 'a'"):
        _rank(RadarSearch(tiny_qwen2, folder=tmp_path / "v"), task)
    task.dataset["default"]["standard"]["corpus"] = Dataset.from_dict({"id": [], "text": []})
    with pytest.raises(ValueError, match="Twice has no document"):
        _rank(RadarSearch(tiny_qwen2, folder=tmp_path / "v"), task)


def test_searching_before_indexing_says_so(tiny_qwen2: Path, bright_folder: Path) -> None:
    task = local_task(bright_folder)
    queries = task.dataset["default"]["standard"]["queries"]
    with pytest.raises(ValueError, match="call index"):
        RadarSearch(tiny_qwen2).search(
            queries,
            task_metadata=task.metadata,
            hf_split="standard",
            hf_subset="default",
            top_k=3,
            encode_kwargs=ENCODE,
        )
