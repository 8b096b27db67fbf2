"""Mining: who is taken, and who never is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.mining import DOCNOS, TEXTS, WORDS, ByHand, document_of, mined, simple_examples, training_set
from torch_radar import Encoder
from torch_radar.vectors import StoreMismatchError, VectorStore
from training.data import DataError, Documents, Example, Negative, read_examples
from training.negatives import mine, read_counts
from training.negatives.guards import GUARDS
from training.negatives.miners import BM25Miner, EncoderMiner, RandomMiner, ScoringMiner


def test_jax_is_told_to_leave_the_gpu_alone_before_bm25s_starts_it(tmp_path: Path) -> None:
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").touch()
    started = "import os\ndef top_k(scores, k):\n    print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'])\n"
    (tmp_path / "jax" / "lax.py").write_text(started)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import training.negatives"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XLA")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "false", done.stderr


@pytest.fixture(scope="module")
def tiny_miner(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> EncoderMiner:
    encoder = Encoder(tiny_qwen2, device="cpu")
    return EncoderMiner(Documents.from_texts(TEXTS), encoder, tmp_path_factory.mktemp("s") / "store", name="tiny")


# --- miners ------------------------------------------------------------------------------------------------


def test_bm25_ranks_by_its_formula_with_ties_in_the_order_of_the_documents() -> None:
    texts = {"a": "prime prime ideal", "b": "prime", "c": "compact", "e": "prime", "f": "of the"}
    (ranking,) = BM25Miner(Documents.from_texts(texts)).rank(["Prime"], 10)
    lengths, frequencies = {"a": 3, "b": 1, "e": 1}, {"a": 2, "b": 1, "e": 1}
    idf = np.log(1 + (5 - 3 + 0.5) / (3 + 0.5))
    mean = 6 / 5
    expected = {d: idf * frequencies[d] / (frequencies[d] + 0.9 * (1 - 0.4 + 0.4 * lengths[d] / mean)) for d in lengths}
    assert [docno for docno, _ in ranking] == sorted(expected, key=lambda d: -expected[d])
    assert dict(ranking) == pytest.approx(expected, rel=1e-5)


def test_bm25_gives_no_document_that_shares_no_word() -> None:
    miner = BM25Miner(Documents.from_texts({"a": "prime ideal", "b": "compact"}))
    assert miner.rank(["zebra", "the of", "", "compact zebra"], 5)[:3] == [[], [], []]
    assert [docno for docno, _ in miner.rank(["compact zebra"], 5)[0]] == ["b"]
    assert BM25Miner(Documents.from_texts({"a": "the of"})).rank(["the prime"], 5) == [[]]


def test_bm25_at_any_depth_is_the_head_of_its_whole_ranking() -> None:
    miner = BM25Miner(Documents.from_texts(TEXTS))
    (whole,) = miner.rank(["compact metric prime"], 1000)
    assert all(miner.rank(["compact metric prime"], depth)[0] == whole[:depth] for depth in range(1, 45))
    assert (miner.settings()["k1"], miner.settings()["b"]) == (0.9, 0.4)


def test_random_documents_are_each_querys_own_and_always_the_same() -> None:
    documents = Documents.from_texts(TEXTS)
    queries = ["a", "b", "é"]
    rankings = RandomMiner(documents, 10).rank(queries, 100)
    assert rankings == [RandomMiner(documents, 10).rank([query], 100)[0] for query in queries]
    assert [len({docno for docno, _ in ranking}) for ranking in rankings] == [10, 10, 10]
    assert len({docno for ranking in rankings for docno, _ in ranking}) > 10
    assert RandomMiner(documents, 10, seed=1).rank(queries, 100) != rankings
    assert [len(RandomMiner(documents, 99).rank(["a"], depth)[0]) for depth in (3, 1000)] == [3, len(TEXTS)]


def test_bm25_fills_up_what_random_negatives_leave(tmp_path: Path) -> None:
    examples = training_set(tmp_path, [Example("q", TEXTS["d3#0"], "statement", "d3#0", (), (), {})])
    miners = [BM25Miner(examples.documents), RandomMiner(examples.documents, 3)]
    (mined,) = read_examples(mine(examples, miners, 12, tmp_path / "mined.jsonl"), examples.documents, cache=tmp_path)
    origins = [negative.origin.partition("-")[0] for negative in mined.negatives]
    assert origins.count("random") <= 3 < origins.count("bm25")
    assert len(origins) == 12


def test_an_encoder_finds_what_is_meant(tmp_path: Path) -> None:
    texts = {"cat": "A kitten sleeps on the sofa.", "law": "Parliament passed the bill.", "sea": "Waves hit the shore."}
    miner = EncoderMiner(Documents.from_texts(texts), Encoder("all-MiniLM-L6-v2", device="cpu"), tmp_path / "store")
    ((first, score), *_), _ = miner.rank(["a young feline naps", "ocean"], 3)
    assert (miner.name, first) == ("all-MiniLM-L6-v2", "cat") and 0 < score < 1
    assert isinstance(miner, ScoringMiner) and not isinstance(BM25Miner(Documents.from_texts(texts)), ScoringMiner)


def test_scores_of_documents_are_those_they_are_ranked_by(tiny_miner: EncoderMiner) -> None:
    queries = ["finite group", "compact metric"]
    rankings = tiny_miner.rank(queries, 10)
    docnos = [[docno for docno, _ in ranking] for ranking in rankings]
    for ranking, scores in zip(rankings, tiny_miner.scores(queries, docnos), strict=True):
        assert scores == pytest.approx([score for _, score in ranking], abs=1e-6)


def test_an_interrupted_store_is_finished_and_one_of_other_documents_refused(tiny_qwen2: Path, tmp_path: Path) -> None:
    documents, encoder = Documents.from_texts(TEXTS), Encoder(tiny_qwen2, device="cpu")
    whole = EncoderMiner(documents, encoder, tmp_path / "whole", window=8)
    expected = whole.rank(["finite group"], 40)
    miner = EncoderMiner(documents, encoder, tmp_path / "cut", window=8)
    store = VectorStore.create(
        tmp_path / "cut", dimension=encoder.dimension, settings=VectorStore.open(tmp_path / "whole").settings
    )
    store.append(DOCNOS[:8], encoder.encode_documents([TEXTS[docno] for docno in DOCNOS[:8]]))
    assert miner.rank(["finite group"], 40) == expected
    assert len(VectorStore.open(tmp_path / "cut")) == 40 and VectorStore.open(tmp_path / "cut").is_complete
    with pytest.raises(StoreMismatchError, match="documents"):
        EncoderMiner(Documents.from_texts(TEXTS | {"new": "another"}), encoder, tmp_path / "cut")


# --- who is taken ------------------------------------------------------------------------------------------


def test_miners_take_turns_behind_the_negatives_that_were_there(tmp_path: Path) -> None:
    given_negative = Negative("d9#0", "given")
    data = training_set(tmp_path, [Example("q", "x", "question", "d0#0", (given_negative,))])
    miners = [ByHand(DOCNOS[2:8], "one"), ByHand(DOCNOS[4:20], "two")]
    output = mine(data, miners, 8, tmp_path / "out.jsonl", progress=False)
    (example,) = mined(output, data.documents)
    first, *rest = example.negatives
    assert first == given_negative
    assert {negative.origin.split("-")[0] for negative in rest[::2]} != {n.origin.split("-")[0] for n in rest[1::2]}
    # d2#0 … d3#1 are in both rankings: whoever comes first has them, and the other goes on to its next
    assert len({negative.docno for negative in rest}) == 7
    for negative in rest:
        name, rank = negative.origin.rsplit("-", 1)
        assert (DOCNOS[2:8] if name == "one" else DOCNOS[4:20])[int(rank) - 1] == negative.docno


def test_first_ranks_are_skipped_for_miners_without_comparable_scores(tmp_path: Path, tiny_miner: EncoderMiner) -> None:
    data = training_set(tmp_path, simple_examples(6))
    output = mine(data, [ByHand(DOCNOS)], 5, tmp_path / "out.jsonl", skip=30, depth=38, progress=False)
    ranks = [int(n.origin.removeprefix("hand-")) for e in mined(output, data.documents) for n in e.negatives]
    assert min(ranks) == 31 and max(ranks) <= 38
    output = mine(data, [tiny_miner], 5, tmp_path / "tiny.jsonl", skip=30, depth=38, margin=None, progress=False)
    assert any(n.origin == "tiny-1" for e in mined(output, data.documents) for n in e.negatives)


def test_more_negatives_than_asked_for_all_stay(tmp_path: Path) -> None:
    negatives = tuple(Negative(docno, "given") for docno in DOCNOS[10:15])
    data = training_set(tmp_path, [Example("q", "x", "question", "d0#0", negatives)])
    output = mine(data, [ByHand(DOCNOS)], 2, tmp_path / "out.jsonl", progress=False)
    assert mined(output, data.documents)[0].negatives == negatives


def test_each_guard_is_counted_for_what_it_removed(tmp_path: Path) -> None:
    texts = {"p": "P", "also": "A", "other": "O", "q1": "Q", "twin": "P", "p#2": "R", "n": "N", "n-twin": "N", "m": "M"}
    examples = [Example("q1", "x", "question", "p", (), ("also",)), Example("q2", "x", "question", "other")]
    data = training_set(tmp_path, examples, texts)
    output = mine(data, [ByHand(list(texts))], 9, tmp_path / "o.jsonl", same_document=document_of, progress=False)
    first, second = mined(output, data.documents)
    assert [n.docno for n in first.negatives] == ["n", "m"]
    assert first.negatives[1].origin == "hand-9"
    # p is relevant to the same query text, and with it fall its twin and its document
    assert [n.docno for n in second.negatives] == ["also", "q1", "n", "m"]
    expected = {"positive": 2, "also_relevant": 3, "own_document": 1, "same_text": 2, "same_document": 2, "margin": 0}
    assert read_counts(output) == {
        "examples": 2,
        "unranked": 0,
        "mined": 6,
        "short": 2,
        "removed": expected | {"duplicate": 2},
    }


@pytest.mark.parametrize("batch", [1, 256])
def test_examples_whose_positive_no_miner_ranks_are_left_out_for_a_reranker(tmp_path: Path, batch: int) -> None:
    examples = [Example(f"q{i}", f"x{i}", "question", docno) for i, docno in enumerate(["d0#0", "d1#0", "d9#0"])]
    data = training_set(tmp_path, examples)
    miner = ByHand([docno for docno in DOCNOS if docno != "d0#0"])
    output = mine(data, [miner], 2, tmp_path / "o.jsonl", depth=4, ranked=True, batch=batch, progress=False)
    assert [(e.query_id, [n.docno for n in e.negatives]) for e in mined(output, data.documents)] == [
        ("q1", ["d0#1", "d1#1"])  # d0#0 is not proposed, d9#0 is deeper
    ]
    assert read_counts(output) | {"removed": {}} == {
        "examples": 3,
        "unranked": 2,
        "mined": 2,
        "short": 0,
        "removed": {},
    }
    with pytest.raises(DataError, match="raise depth, or do without"):
        mine(data, [ByHand(["d5#0"])], 2, tmp_path / "none.jsonl", ranked=True, progress=False)
    mine(data, [ByHand(["d5#0"])], 2, tmp_path / "none.jsonl", progress=False)  # as it was told


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_guards_hold_for_any_judgements(
    data: st.DataObject, tiny_miner: EncoderMiner, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("judged")
    docnos = st.sampled_from(DOCNOS)
    examples = []
    for _ in range(data.draw(st.integers(1, 5), label="examples")):
        positive = data.draw(docnos)
        also = data.draw(st.lists(docnos.filter(lambda d, p=positive: d != p), max_size=4, unique=True))
        free = [d for d in DOCNOS if TEXTS[d] != TEXTS[positive] and d not in also]
        negatives = tuple(
            Negative(d, "given") for d in data.draw(st.lists(st.sampled_from(free), max_size=3, unique=True))
        )
        query_id = data.draw(st.sampled_from(["q1", "q2", "q3"]) | docnos)
        query = " ".join(data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)))
        examples.append(Example(query_id, query, "question", positive, negatives, tuple(also)))
    given_set = training_set(folder, examples)
    how_many, margin = data.draw(st.integers(1, 12)), data.draw(st.sampled_from([0.0, 0.05, 0.3]))
    by_document = data.draw(st.sampled_from([None, document_of]))
    miners = [BM25Miner(given_set.documents), tiny_miner]
    output = mine(
        given_set, miners, how_many, folder / "o.jsonl", margin=margin, same_document=by_document, progress=False
    )
    found = mined(output, given_set.documents)
    assert [(e.query_id, e.query, e.positive, e.also_relevant) for e in found] == [
        (e.query_id, e.query, e.positive, e.also_relevant) for e in examples
    ]
    for before, after in zip(examples, found, strict=True):
        kept, new = after.negatives[: len(before.negatives)], after.negatives[len(before.negatives) :]
        assert kept == before.negatives and (not new or len(after.negatives) <= how_many)
        same_query = [e.positive for e in examples if e.query_id == before.query_id or e.query == before.query]
        relevant = {before.positive, *before.also_relevant, *same_query}
        ((limit,),) = tiny_miner.scores([before.query], [[before.positive]])
        texts = [TEXTS[n.docno] for n in new]
        assert len(set(texts)) == len(texts) and not set(texts) & {TEXTS[n.docno] for n in kept}
        for negative in new:
            assert negative.docno not in relevant and negative.docno != before.query_id
            assert TEXTS[negative.docno] not in {TEXTS[d] for d in relevant}
            if by_document:
                assert document_of(negative.docno) not in {document_of(d) for d in relevant}
            ((score,),) = tiny_miner.scores([before.query], [[negative.docno]])
            assert score <= limit - margin * abs(limit) + 1e-6
    counts = read_counts(output)
    assert counts["mined"] == sum(len(e.negatives) for e in found) - sum(len(e.negatives) for e in examples)
    assert set(counts["removed"]) == set(GUARDS)


# --- texts, settings ---------------------------------------------------------------------------------------


def test_texts_stay_out_or_go_inline_or_beside(tmp_path: Path) -> None:
    data = training_set(tmp_path, simple_examples(5))
    plain = mine(data, [ByHand(DOCNOS)], 3, tmp_path / "plain.jsonl", progress=False)
    inline = mine(data, [ByHand(DOCNOS)], 3, tmp_path / "inline.jsonl", texts="inline", progress=False)
    beside = mine(data, [ByHand(DOCNOS)], 3, tmp_path / "beside.jsonl", texts="beside", progress=False)
    expected = mined(plain, data.documents)
    assert "case" not in plain.read_text() and plain.read_bytes() == beside.read_bytes()
    assert list(read_examples(inline, cache=tmp_path / "c")) == expected
    documents = Documents.from_files(tmp_path / "beside.documents.jsonl", tmp_path / "c")
    assert list(read_examples(beside, documents, cache=tmp_path / "c")) == expected
    assert set(documents.docnos()) == {d for e in expected for d in (e.positive, *(n.docno for n in e.negatives))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how_many": 0}, "how_many"),
        ({"depth": 0}, "depth"),
        ({"skip": 100}, "skip"),
        ({"skip": 1, "ranked": True}, "skip"),
        ({"margin": 1.0}, "margin"),
        ({"batch": 0}, "batch"),
        ({"texts": "above"}, "texts"),
        ({"output": "out.parquet"}, r"\.jsonl"),
        ({"miners": []}, "at least one"),
        ({"miners": [ByHand([]), ByHand([])]}, "different names"),
    ],
)
def test_mistaken_settings_are_refused_before_any_work(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = training_set(tmp_path / "data", simple_examples(2))
    asked = {"miners": [ByHand(DOCNOS)], "how_many": 2, "output": "out.jsonl"} | change
    with pytest.raises(ValueError, match=message):
        mine(data, output=tmp_path / asked.pop("output"), **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_document_the_training_set_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'stranger'"):
        mine(training_set(tmp_path, simple_examples(2)), [ByHand(["stranger"])], 2, tmp_path / "out.jsonl")


def test_a_positive_the_encoder_miner_lacks_is_named(tmp_path: Path, tiny_miner: EncoderMiner) -> None:
    data = training_set(tmp_path, [Example("q", "x", "question", "new")], TEXTS | {"new": "another"})
    with pytest.raises(DataError, match="'new'.*'tiny'"):
        mine(data, [tiny_miner], 2, tmp_path / "out.jsonl", progress=False)
