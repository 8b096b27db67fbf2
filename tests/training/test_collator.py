"""A batch is one column of distinct texts in the very form that torch_radar serves, and labels that find them."""

import json
from pathlib import Path

import pytest
import torch

from tests.models import qwen_tokenizer
from torch_radar.checkpoints import Checkpoint
from torch_radar.templates import PLAIN, QUERY_DOCUMENT, RECOVERED_PAIR, frame_pairs, frame_texts, framing
from training.collator import RerankerCollator, RetrieverCollator
from training.data import TrainingSet, read_examples
from training.losses import ABSENT

TEXTS = {
    "a": "Let $G$ be a finite group",
    "b": "the ferry leaves",
    "c": "A continuous function attains its maximum on a closed interval " * 4,
    "d": "étale",
    "twin": "the ferry leaves",  # the text of b
}
EXAMPLES = [
    ("q0", "which group?", "a", ["b", "c", "d"], []),
    ("q1", "when does it leave?", "b", ["a"], []),
    ("q2", "which group?", "c", [], ["a", "no-text"]),
    ("q3", "when? " * 30, "twin", ["a", "c", "d"], []),
]
RETRIEVER = Checkpoint("x", "retriever", QUERY_DOCUMENT, "last_token", max_tokens=64)
RERANKER = Checkpoint("x", "reranker", RECOVERED_PAIR, "last_token", max_tokens=64)


@pytest.fixture(scope="module")
def tokenizer():
    return qwen_tokenizer()


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    folder = tmp_path_factory.mktemp("examples")
    with (folder / "examples.jsonl").open("w") as file:
        for query_id, query, positive, negatives, relevant in EXAMPLES:
            record = {
                "query_id": query_id,
                "query": query,
                "positive": {"docno": positive, "text": TEXTS[positive]},
                "negatives": [{"docno": d, "text": TEXTS[d], "origin": "x"} for d in negatives],
                "also_relevant": relevant,
            }
            file.write(json.dumps(record) + "\n")
    return read_examples(Path(file.name), cache=folder)


def collate(collator: type, training_set, tokenizer, rows: list[int], checkpoint: Checkpoint, **settings):
    made = collator(training_set, tokenizer, checkpoint, **({"group_size": 4, "seed": 0} | settings))
    return made([{"row": row, "position": position} for position, row in enumerate(rows)])


def sequences(batch: dict) -> list[list[int]]:
    lengths = batch["text_attention_mask"].sum(1).tolist()
    return [row[:length].tolist() for row, length in zip(batch["text_input_ids"], lengths, strict=True)]


def retriever_batch(training_set, tokenizer, rows, *, limits=(48, 40), checkpoint=RETRIEVER, **settings):
    query, document = limits
    settings |= {"max_query_tokens": query, "max_document_tokens": document}
    return collate(RetrieverCollator, training_set, tokenizer, rows, checkpoint, **settings)


@pytest.mark.parametrize("checkpoint", [RETRIEVER, Checkpoint("x", "retriever", PLAIN, "mean", max_tokens=64)])
def test_queries_and_documents_are_in_the_form_torch_radar_serves(training_set, tokenizer, checkpoint) -> None:
    batch = retriever_batch(training_set, tokenizer, [0, 1, 2, 3], checkpoint=checkpoint)
    label, column = batch["label"], sequences(batch)
    frame = framing(tokenizer, ends_with_eos=checkpoint.ends_with_eos)
    template = checkpoint.template
    for row, (_, query, positive, negatives, _) in enumerate(EXAMPLES):
        expected = frame_texts(tokenizer, [template.query(query)], frame, 48)[0]
        assert column[label["query"][row]] == expected
        strings = [template.document(TEXTS[docno]) for docno in [positive, *negatives]]
        for place, ids in enumerate(frame_texts(tokenizer, strings, frame, 40)):
            assert column[label["documents"][row, place]] == ids


def test_pairs_are_in_the_form_torch_radar_serves(training_set, tokenizer) -> None:
    batch = collate(RerankerCollator, training_set, tokenizer, [0, 1, 2], RERANKER, max_pair_tokens=50)
    label, column = batch["label"], sequences(batch)
    frame = framing(tokenizer, ends_with_eos=True)
    for row, (_, query, positive, negatives, _) in enumerate(EXAMPLES[:3]):
        pairs = [(query, TEXTS[docno]) for docno in [positive, *negatives]]
        for place, ids in enumerate(frame_pairs(tokenizer, pairs, RECOVERED_PAIR, frame, 50)):
            assert column[label["pairs"][row, place]] == ids


def test_a_teacher_scores_the_documents_of_each_group(training_set, tokenizer) -> None:
    class Teacher:
        def scores(self, queries: list[str], docnos: list[list[str]]) -> list[list[float]]:
            return [[len(query) + ord(d[0]) / 128 for d in group] for query, group in zip(queries, docnos, strict=True)]

    batch = collate(RerankerCollator, training_set, tokenizer, [0, 1], RERANKER, max_pair_tokens=50, teacher=Teacher())
    assert batch["label"]["teacher"].dtype == torch.float32
    for row, (_, query, positive, negatives, _) in enumerate(EXAMPLES[:2]):
        expected = [len(query) + ord(docno[0]) / 128 for docno in (positive, *negatives)]
        assert batch["label"]["teacher"][row, : len(expected)].tolist() == expected
    assert batch["label"]["teacher"].shape == batch["label"]["ids"].shape


def test_a_column_goes_from_longest_to_shortest_and_holds_each_text_once(training_set, tokenizer) -> None:
    batch = retriever_batch(training_set, tokenizer, [0, 1, 2, 3, 0])
    column = sequences(batch)
    lengths = [len(ids) for ids in column]
    assert lengths == sorted(lengths, reverse=True)
    assert len({tuple(ids) for ids in column}) == len(column) == 3 + 4  # three queries, four texts of five documents
    assert batch["text_input_ids"].shape == batch["text_attention_mask"].shape == (7, max(lengths))
    pairs = collate(RerankerCollator, training_set, tokenizer, [0, 0, 2], RERANKER, max_pair_tokens=64)
    assert len(sequences(pairs)) == 4  # row 2 asks the query of row 0 about one of its documents


def test_fewer_negatives_than_the_group_are_absent(training_set, tokenizer) -> None:
    ids = retriever_batch(training_set, tokenizer, [0, 1, 2])["label"]["ids"]
    assert (ids == ABSENT).tolist() == [[False] * 4, [False, False, True, True], [False, True, True, True]]
    pairs = collate(RerankerCollator, training_set, tokenizer, [0, 1, 2], RERANKER, max_pair_tokens=64)
    assert ((pairs["label"]["ids"] == ABSENT) == (ids == ABSENT)).all()


def test_equal_ids_are_equal_texts_whatever_their_docno(training_set, tokenizer) -> None:
    label = retriever_batch(training_set, tokenizer, [0, 1, 3])["label"]
    a, b, c, d = label["ids"][0].tolist()
    assert len({a, b, c, d}) == 4
    assert label["ids"][1].tolist()[:2] == [b, a]
    assert label["ids"][2, 0] == b, "twin has the text of b, so b is no negative for it"


def test_relevant_documents_are_named_with_or_without_a_text(training_set, tokenizer) -> None:
    label = retriever_batch(training_set, tokenizer, [0, 2])["label"]
    a, _, c, _ = label["ids"][0].tolist()
    assert label["relevant"].tolist() == [[a, ABSENT], [c, a]]


def test_more_negatives_than_the_group_are_chosen_by_position(training_set, tokenizer) -> None:
    ids = retriever_batch(training_set, tokenizer, [0] * 30, group_size=2)["label"]["ids"]
    assert ids.shape == (30, 2)
    assert len(set(ids[:, 0].tolist())) == 1 and len(set(ids[:, 1].tolist())) == 3
    again = retriever_batch(training_set, tokenizer, [0] * 30, group_size=2)["label"]["ids"]
    other = retriever_batch(training_set, tokenizer, [0] * 30, group_size=2, seed=1)["label"]["ids"]
    assert torch.equal(ids, again) and not torch.equal(ids, other)


def test_eos_is_last_after_truncation_and_the_limits_hold(training_set, tokenizer) -> None:
    column = sequences(retriever_batch(training_set, tokenizer, [0, 3], limits=(16, 12)))
    assert all(ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1 for ids in column)
    assert max(map(len, column)) == 16
    pairs = sequences(collate(RerankerCollator, training_set, tokenizer, [0, 2], RERANKER, max_pair_tokens=30))
    assert all(ids[-1] == tokenizer.eos_token_id for ids in pairs) and max(map(len, pairs)) == 30
