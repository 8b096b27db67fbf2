"""Text forms are exact at the level of tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import EOS, qwen_tokenizer
from torch_radar.templates import (
    AUTHORS_PAIR,
    PLAIN,
    QUERY_DOCUMENT,
    QUERY_PASSAGE,
    RECOVERED_PAIR,
    frame_pairs,
    frame_texts,
    framing,
    pair_template,
    text_template,
)

TOKENIZER = qwen_tokenizer()
FRAME = framing(TOKENIZER, ends_with_eos=True)
TEXTS = st.text(max_size=80) | st.from_regex(r"[ \n\t]{0,3}[a-zA-Z$\\{}0-9 ]{0,60}[ \n]{0,3}", fullmatch=True)


def one_shot(string: str) -> list[int]:
    return TOKENIZER(string)["input_ids"]


def test_the_evaluation_form_is_the_default_words() -> None:
    assert QUERY_DOCUMENT.query("why?", "Instruct: find\nQuery: ") == "query: Instruct: find\nQuery: why?"
    assert QUERY_DOCUMENT.document("because") == "document: because"
    assert QUERY_PASSAGE.query("why?") == "Query: why?"
    assert QUERY_PASSAGE.document("because") == "Passage: because"


@given(text=TEXTS)
def test_text_ids_equal_one_shot_tokenisation(text: str) -> None:
    string = QUERY_DOCUMENT.document(text)
    assert frame_texts(TOKENIZER, [string], FRAME, 8192) == [one_shot(string + EOS)]


@given(text=TEXTS, limit=st.integers(2, 40))
def test_truncation_keeps_the_head_and_puts_eos_last(text: str, limit: int) -> None:
    string = QUERY_DOCUMENT.query(text)
    (ids,) = frame_texts(TOKENIZER, [string], FRAME, limit)
    whole = one_shot(string)
    assert len(ids) <= limit
    assert ids[-1] == TOKENIZER.eos_token_id
    assert ids[:-1] == whole[: limit - 1]


@pytest.mark.parametrize(
    ("template", "before_query", "before_document", "after_document"),
    [
        (RECOVERED_PAIR, "query: Query: ", " document:  ", " " + EOS),
        (AUTHORS_PAIR, "query: ", " document: ", EOS),
    ],
)
@given(query=TEXTS, document=TEXTS)
def test_pair_ids_equal_one_shot_tokenisation(
    template, before_query: str, before_document: str, after_document: str, query: str, document: str
) -> None:
    expected = one_shot(before_query + query + before_document + document + after_document)
    assert frame_pairs(TOKENIZER, [(query, document)], template, FRAME, 8192) == [expected]


@settings(max_examples=50)
@given(document=st.text(min_size=30, max_size=120), room=st.integers(3, 25))
def test_only_the_document_is_truncated_and_the_tail_stays(document: str, room: int) -> None:
    query = "how many people wait?"
    head = one_shot(RECOVERED_PAIR.head(query))
    tail = one_shot(RECOVERED_PAIR.after_document)
    limit = len(head) + len(tail) + 1 + room
    (ids,) = frame_pairs(TOKENIZER, [(query, document)], RECOVERED_PAIR, FRAME, limit)
    whole = one_shot(RECOVERED_PAIR.head(query) + document)
    if len(one_shot(RECOVERED_PAIR.head(query) + document + " ")) + 1 > limit:
        assert len(ids) <= limit
        assert ids == whole[: limit - 1 - len(tail)] + tail + [TOKENIZER.eos_token_id]


def test_a_query_that_leaves_no_room_for_a_document_is_named() -> None:
    pairs = [("short", "text"), ("a very long query " * 20, "text")]
    with pytest.raises(ValueError, match=r"'a very long query .* of pair 1 has \d+ tokens .* raise max_tokens"):
        frame_pairs(TOKENIZER, pairs, RECOVERED_PAIR, FRAME, 30)


def test_eos_is_not_the_pad_token() -> None:
    assert FRAME.after == (TOKENIZER.eos_token_id,)
    assert TOKENIZER.eos_token_id != TOKENIZER.pad_token_id


def test_a_tokenizer_that_adds_its_own_eos_still_gives_exactly_one() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = qwen_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, tokenizer.eos_token_id)]
    )
    assert tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
    frame = framing(tokenizer, ends_with_eos=True)
    (ids,) = frame_texts(tokenizer, ["document: a"], frame, 64)
    assert ids.count(tokenizer.eos_token_id) == 1


def test_a_tokenizer_that_adds_bos_keeps_it() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = qwen_tokenizer()
    bos = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", bos)]
    )
    frame = framing(tokenizer, ends_with_eos=True)
    assert frame_texts(tokenizer, ["a" * 50], frame, 5)[0][0] == bos


def test_a_tokenizer_without_eos_is_an_error() -> None:
    tokenizer = qwen_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        framing(tokenizer, ends_with_eos=True)


def test_templates_are_found_by_name_and_a_wrong_name_lists_them() -> None:
    assert text_template("plain") is PLAIN
    assert pair_template("authors") is AUTHORS_PAIR
    with pytest.raises(ValueError, match="known: query-document, query-passage, plain"):
        text_template("e5")
