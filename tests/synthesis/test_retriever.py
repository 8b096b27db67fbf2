"""Theorems by query: every adapter finds the same theorem, nothing blocks, and bad records are named."""

from __future__ import annotations

import asyncio
import errno
import gzip
import itertools
import json
import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from radar_bm25.index import bm25 as retriever
from synthesis.retriever import (
    BM25Theorems,
    CorpusError,
    EncoderTheorems,
    EndpointTheorems,
    Hit,
    QueryError,
    TransformerTheorems,
    read_corpus,
)
from synthesis.retriever.port import BatchedTheorems
from tests.synthesis.solver import Solver, theorems
from torch_radar import Encoder
from torch_radar.vectors import StoreMismatchError, VectorStore

CORPUS = theorems()
QUERY = "Pythagorean theorem. In a right triangle the square of the hypotenuse is the sum of the squares of the legs."
BAD = [
    ([{"docno": "a", "text": "one"}, {"docno": "a", "text": "two"}], "theorem 1.*'a' is there already"),
    ([{"docno": "a", "text": "one"}, {"docno": "b", "text": " \n"}], "theorem 1.*text of 'b' is blank"),
    ([{"docno": "a", "text": None}], "text of 'a' is blank or missing"),
    ([{"docno": "a", "text": float("nan")}], "text of 'a' is blank or missing"),
    ([{"text": "one"}], "docno None"),
    ([{"docno": "a\nb", "text": "one"}], "control characters"),
    ([{"docno": "a", "text": "\ud800"}], "surrogate"),
    (["one"], "theorem 0.*is a str"),
    ([], "no theorem"),
]


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(240):  # on a busy machine
            return await main()

    return asyncio.run(bounded())


class Counting(BatchedTheorems):
    """Ranks everything in the order of the corpus, slowly, and notes what it was asked together."""

    def __init__(self, **settings: Any):
        super().__init__(CORPUS, **settings)
        self.batches: list[tuple[list[str], int]] = []

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append((list(queries), k))
        time.sleep(0.05)
        if "fail" in queries:
            raise RuntimeError("no")
        return [[Hit(docno, 1.0) for docno in CORPUS][:k] for _ in queries]


def test_searches_made_together_are_ranked_together_and_the_loop_goes_on() -> None:
    async def main() -> None:
        counting = Counting(batch=8)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        found = await asyncio.gather(*(counting.search(f"query {n % 15}", 1 + n % 3) for n in range(20)))
        ticking.cancel()
        assert [len(hits) for hits in found] == [1 + n % 3 for n in range(20)]
        assert [len(queries) for queries, _ in counting.batches] == [8, 8, 4]
        assert {k for _, k in counting.batches} == {3} and ticks > 5

    run(main)


def test_an_error_reaches_its_searches_and_no_others_and_a_cancelled_search_costs_nothing() -> None:
    async def main() -> None:
        counting = Counting(batch=1)
        bad = asyncio.create_task(counting.search("fail", 2))
        cancelled = asyncio.create_task(counting.search("cancelled", 2))
        good = asyncio.create_task(counting.search("good", 2))
        await asyncio.sleep(0.001)
        cancelled.cancel()
        assert len(await good) == 2
        with pytest.raises(RuntimeError, match="no"):
            await bad
        assert [queries for queries, _ in counting.batches] == [["fail"], ["good"]]
        with pytest.raises(ValueError, match="k is 0"):
            await counting.search("query", 0)

    run(main)


def test_one_object_serves_one_loop_after_the_other() -> None:
    counting = Counting()
    for _ in range(2):
        assert len(run(lambda: counting.search("query", 2))) == 2


@pytest.fixture(scope="module")
def bm25(tmp_path_factory: pytest.TempPathFactory) -> BM25Theorems:
    return BM25Theorems(CORPUS, tmp_path_factory.mktemp("bm25"))


def test_bm25_finds_theorems_by_their_words(bm25: BM25Theorems) -> None:
    async def main() -> None:
        hits = await bm25.search(QUERY, 5)
        assert hits[0].docno == "pythagorean-theorem" and len(hits) == 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert bm25.text("pythagorean-theorem") == CORPUS["pythagorean-theorem"]
        assert await bm25.search("+ / ? ^ : ' \" {", 5) == [] == await bm25.search("", 5)
        deep = await bm25.search("the number of elements of a set", 50)
        assert len(deep) > 10 and deep[:5] == (await bm25.search("the number of elements of a set", 5))

    run(main)
    with pytest.raises(KeyError):
        bm25.text("none")


def test_bm25_takes_any_docno_and_keeps_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = {"my theorem 1": "Every parallelogram is a sum.", "../up": "Odd numbers only.", "定理": "Primes are odd."}
    first = BM25Theorems(corpus, tmp_path)
    monkeypatch.setattr("radar_bm25.index._build", None)  # it isn't called again
    second = BM25Theorems(corpus, tmp_path)

    async def main() -> None:
        for found in (first, second):
            assert (await found.search("parallelogram", 1))[0].docno == "my theorem 1"
            assert {hit.docno for hit in await found.search("odd", 3)} == {"../up", "定理"}

    run(main)


def test_bm25_leaves_nothing_when_the_disk_is_full_or_there_is_nothing_to_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CorpusError, match="no theorem has a term"):
        BM25Theorems({"a": "定理"}, tmp_path)
    usage = namedtuple("usage", "total used free")
    for frees in (itertools.repeat(2**20), iter([2**40, 2**20])):  # full at once, or while it builds
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _, frees=frees: usage(10**9, 10**9, next(frees)))
            with pytest.raises(OSError, match="No space left on device: less than 64 MiB free") as error:
                BM25Theorems(CORPUS, tmp_path)
        assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_finds_the_theorem_itself_and_goes_on_where_it_was_stopped(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(tiny_qwen2)
    corpus = dict(list(CORPUS.items())[:30])
    encoded: list[int] = []
    encode = Encoder.encode_documents

    def counted(self: Encoder, texts: Any) -> Any:
        encoded.append(len(texts))
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr("synthesis.retriever.dense._WINDOW", 8)
    monkeypatch.setattr(Encoder, "encode_documents", counted)
    with pytest.raises(KeyboardInterrupt):
        EncoderTheorems(corpus, encoder, tmp_path)
    found = EncoderTheorems(corpus, encoder, tmp_path)
    assert encoded == [8, 8, 8, 8, 6]  # the third window was encoded again, the first two were not
    assert EncoderTheorems(corpus, encoder, tmp_path) and len(encoded) == 5
    store = VectorStore.open(tmp_path)
    assert store.is_complete and len(store) == 30

    async def main() -> None:
        queries = list(corpus.values())
        hits = await asyncio.gather(*(found.search(query, 3) for query in queries))
        vectors = encoder.encode_queries(queries)
        best = (vectors @ encode(encoder, queries).T).argmax(axis=1)
        assert [ranking[0].docno for ranking in hits] == [list(corpus)[row] for row in best]
        assert len(await found.search("anything", 99)) == 30

    run(main)
    with pytest.raises(StoreMismatchError, match="theorems"):
        EncoderTheorems(corpus | {"new": "another"}, encoder, tmp_path)


def test_an_embedding_endpoint_finds_theorems_in_batches(tmp_path: Path) -> None:
    async def main() -> None:
        async with Solver() as solver:
            make = lambda: EndpointTheorems(CORPUS, solver.url, "solver", tmp_path)  # noqa: E731
            found = await asyncio.to_thread(make)
            assert (await found.search("hypotenuse, legs, right triangle", 3))[0].docno == "pythagorean-theorem"
            many = await asyncio.gather(*(found.search(text, 1) for text in CORPUS.values()))
            assert [hits[0].docno for hits in many] == list(CORPUS)
        again = await asyncio.to_thread(make)  # the vectors are there: no server is needed
        assert again.texts == CORPUS
        with pytest.raises(StoreMismatchError, match="endpoint_model"):
            await asyncio.to_thread(lambda: EndpointTheorems(CORPUS, solver.url, "other", tmp_path))

    run(main)


def test_an_embedding_endpoint_that_refuses_or_is_away_is_named_without_the_key(tmp_path: Path) -> None:
    async def main() -> None:
        def make(**settings: Any) -> EndpointTheorems:
            return EndpointTheorems(CORPUS, solver.url, folder=tmp_path, **{"model": "solver"} | settings)

        async with Solver(api_key="sk-secret") as solver:
            for settings in ({"api_key": "sk-wrong"}, {"api_key": "sk-secret", "model": "other"}):
                with pytest.raises(ConnectionError, match=f"{solver.url} embeds nothing.*start the server") as refused:
                    await asyncio.to_thread(make, **settings)
                assert "sk-" not in str(refused.value)
            found = await asyncio.to_thread(make, api_key="sk-secret")
        found._client.max_retries = 0
        with pytest.raises(ConnectionError, match=f"{solver.url} embeds nothing.*start the server"):
            await found.search("hypotenuse", 3)

    run(main)


def test_a_theorem_that_an_embedding_endpoint_refuses_is_named_before_any_search(tmp_path: Path) -> None:
    async def main() -> None:
        corpus = CORPUS | {"endless": "long " * 1000}
        async with Solver(longest_prompt=2000) as solver:
            with pytest.raises(CorpusError, match="'endless'.*maximum context length.*shorten it") as refused:
                await asyncio.to_thread(EndpointTheorems, corpus, solver.url, "solver", tmp_path)
            assert "start the server" not in str(refused.value)

    run(main)


def test_a_query_that_an_embedding_endpoint_refuses_fails_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Solver(longest_prompt=2000) as solver:
            found = await asyncio.to_thread(EndpointTheorems, CORPUS, solver.url, "solver", tmp_path)
            good = "hypotenuse, legs, right triangle"
            queries = [good, "long " * 1000, "even longer " * 1000, good, "the chain rule"]
            first, *refused, again, other = await asyncio.gather(
                *(found.search(query, 1) for query in queries), return_exceptions=True
            )
        assert first == again and first[0].docno == "pythagorean-theorem"
        assert len(other) == 1
        for query, error in zip(queries[1:3], refused, strict=True):
            assert isinstance(error, QueryError) and error.query == query
            assert "maximum context length" in str(error) and "start the server" not in str(error)

    run(main)


def test_an_embedding_endpoint_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(f"openai._base_client.{name}", 0.01)

    class Loading(Solver):
        asked = 0

        async def _handle(self, request: Any) -> Any:
            self.asked += 1
            return await super()._handle(request) if self.asked > 12 else self._refuse(503, "loading")

    async def main() -> None:
        async with Loading() as solver:
            found = await asyncio.to_thread(EndpointTheorems, CORPUS, solver.url, "solver", tmp_path)
            assert solver.asked > 12 and found.texts == CORPUS

    run(main)


def test_any_pyterrier_retriever_will_do_as_long_as_it_knows_the_corpus(bm25: BM25Theorems) -> None:
    import pandas as pd
    import pyterrier as pt

    found = TransformerTheorems(CORPUS, retriever(bm25._index, num_results=10))

    async def main() -> None:
        hits = await asyncio.gather(found.search(QUERY, 5), found.search("++", 5), found.search("prime number", 2))
        assert hits[0][0].docno == "pythagorean-theorem" and [len(ranking) for ranking in hits] == [5, 0, 2]

    run(main)
    foreign = pd.DataFrame({"qid": ["0"], "docno": ["elsewhere"], "score": [1.0]})
    stranger = TransformerTheorems(CORPUS, pt.Transformer.from_df(foreign.assign(query="q")))
    with pytest.raises(CorpusError, match="'elsewhere', which the corpus lacks"):
        stranger.rank(["q"], 5)


@pytest.mark.parametrize(("records", "said"), BAD)
def test_a_bad_record_is_named(records: list[Any], said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        TransformerTheorems(records, None)  # type: ignore[arg-type]


def test_a_corpus_is_read_from_json_lines_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    lines = [{"docno": "a", "title": "Title", "text": "Text"}, {"_id": 7, "text": "Another"}]
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))
    assert read_corpus(path) == {"a": "Title\nText", "7": "Another"}
    shipped = Path(__file__).parent / "solver" / "theorems.jsonl"
    assert read_corpus(shipped) == CORPUS
    for text, said in (
        ('{"docno": "a", "text": "one"}\n{"docno": "a", "text": "one"}', "bad.jsonl:2: docno 'a' is there already"),
        ('{"docno": "a", "text": "one"}\n{"docno": ', "bad.jsonl:2: not JSON"),
        ("", "holds no theorem"),
    ):
        bad = tmp_path / "bad.jsonl"
        bad.write_text(text)
        with pytest.raises(CorpusError, match=said):
            read_corpus(bad)
