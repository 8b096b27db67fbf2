import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pyterrier as pt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from pyterrier_radar import ExcludeDocuments, MaxPassage, RadarBiEncoder, RadarIndex, RadarReranker, SlidingWindows
from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from torch_radar.templates import QUERY_PASSAGE, frame_pairs, frame_texts, framing

LONG = " ".join(f"Let $G_{{{i}}}$ be a finite group; naïve étale maps of 群 {i} are bounded.\n" for i in range(60))


def documents(*texts):
    return pd.DataFrame({"docno": [f"d{i}" for i in range(len(texts))], "text": texts})


def spans(windows):
    """Docno, start and end of each window."""
    found = [re.fullmatch(r"(.*)%p(\d+)-(\d+)", docno).groups() for docno in windows["docno"]]
    return [(docno, int(start), int(end)) for docno, start, end in found]


def read_lengths(encoder, texts):
    """How many tokens the encoder reads of each text, if it may read all of it."""
    tokenizer, template = encoder.model.tokenizer, encoder.template
    frame = framing(tokenizer, ends_with_eos=template.ends_with_eos)
    return [len(ids) for ids in frame_texts(tokenizer, [template.document(text) for text in texts], frame, 10**9)]


def check_cover(text, windows):
    covered = np.zeros(len(text), dtype=bool)
    for (_, start, end), window in zip(spans(windows), windows["text"], strict=True):
        assert text[start:end] == window
        covered[start:end] = True
    assert not "".join(char for char, is_in in zip(text, covered, strict=True) if not is_in).strip()


some_text = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from([*LONG.split(), " ", "\n\n  ", "🙂", "é", "\\frac{", "====" * 9, "\x00", "a" * 30])).map(
        " ".join
    ),
    st.integers(0, len(LONG)).map(lambda start: LONG[start : start + 700]),
)


@pytest.mark.parametrize("name", ["qwen", "minilm", "radar-mini"])
def test_every_window_with_its_template_is_within_the_limit_and_the_text_is_covered(name, tiny_qwen2):
    encoder = Encoder({"qwen": tiny_qwen2, "minilm": "all-MiniLM-L6-v2", "radar-mini": None}[name])

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(some_text, st.integers(24, 60), st.integers(1, 70))
    def check(text, tokens, stride):
        windows = SlidingWindows(encoder, tokens, stride)(documents(text))
        check_cover(text, windows)
        assert max(read_lengths(encoder, windows["text"])) <= tokens
        if read_lengths(encoder, [text])[0] <= tokens:
            assert list(windows["text"]) == [text]

    check()


def test_windows_are_full_and_begin_a_stride_apart(tiny_qwen2):
    encoder = Encoder(tiny_qwen2)
    windows = SlidingWindows(encoder, 64, 16)(documents(LONG))
    lengths = read_lengths(encoder, windows["text"])
    assert min(lengths[:-1]) >= 60 and max(lengths) == 64
    starts = [start for _, start, _ in spans(windows)]
    tokens_between = [len(encoder.model.tokenizer(LONG[a:b])["input_ids"]) for a, b in pairwise(starts)]
    assert starts == sorted(set(starts)) and 14 <= np.mean(tokens_between) <= 17
    apart = SlidingWindows(encoder, 64, 64)(documents(LONG))
    ends = [(start, end) for _, start, end in spans(apart)]
    assert all(not LONG[end:start].strip() and end <= start for (_, end), (start, _) in pairwise(ends))
    assert len(apart) < len(windows) / 2.5


def test_the_encoder_reads_each_window_whole(tiny_qwen2):
    """Vectors of windows are those of an encoder that is allowed no more than a window."""
    windows = SlidingWindows(tiny_qwen2, 48, 24)(documents(LONG))
    narrow, wide = Encoder(tiny_qwen2, max_document_tokens=48), Encoder(tiny_qwen2)
    np.testing.assert_allclose(
        narrow.encode_documents(windows["text"]), wide.encode_documents(windows["text"]), atol=1e-5
    )


def test_pairs_of_a_reranker_are_within_the_limit_with_their_query(tiny_qwen2_reranker):
    reranker = RadarReranker(tiny_qwen2_reranker)
    frame = documents(LONG, "short").assign(qid=["q1", "q2"], query=["is it bounded? " * 3, "x"])
    windows = SlidingWindows(reranker, 80, 30)(frame)
    core = reranker.reranker
    frame_ = framing(core.loaded.tokenizer, ends_with_eos=core.checkpoint.ends_with_eos)
    pairs = list(zip(windows["query"], windows["text"], strict=True))
    lengths = [len(ids) for ids in frame_pairs(core.loaded.tokenizer, pairs, core.template, frame_, 10**9)]
    assert max(lengths) == 80 and min(lengths[:-2]) >= 75
    check_cover(LONG, windows[windows["qid"] == "q1"])
    assert list(windows[windows["qid"] == "q2"]["docno"]) == ["d1%p0-5"]
    narrow = RadarReranker(tiny_qwen2_reranker, max_tokens=80)
    np.testing.assert_allclose(narrow(windows)["score"], reranker(windows)["score"], atol=1e-5)


def test_a_text_that_fits_is_one_window_unchanged_and_an_empty_one_too(tiny_qwen2):
    windows = SlidingWindows(tiny_qwen2, 64)(documents("  two words \n", "", " "))
    assert list(windows["docno"]) == ["d0%p0-13", "d1%p0-0", "d2%p0-1"]
    assert list(windows["text"]) == ["  two words \n", "", " "]


def test_only_the_tokenizer_of_a_named_checkpoint_is_loaded_and_an_encoder_is_shared(tiny_qwen2):
    windows = SlidingWindows(tiny_qwen2, 64)
    windows(documents(LONG))
    assert "loaded" not in vars(windows._reader.model)
    encoder = RadarBiEncoder(tiny_qwen2)
    assert SlidingWindows(encoder)._reader is encoder.encoder
    assert SlidingWindows(encoder.encoder)._reader is encoder.encoder
    encoder.encode_queries(["x"])
    assert encoder.encoder.model.tokenizer is encoder.encoder.model.loaded.tokenizer


def test_an_index_of_windows_ranks_documents_by_their_best_window(tiny_qwen2, tmp_path):
    encoder = RadarBiEncoder(tiny_qwen2)
    texts = [LONG[:1500], LONG[900:2600], "a ferry leaves at noon", LONG[2000:]]
    index = RadarIndex(tmp_path / "w.radar", encoder, dtype="float32")
    (SlidingWindows(encoder, 64, 32) >> index).index(documents(*texts).to_dict("records"))
    out = (index.retriever() >> MaxPassage()).search("finite group")
    windows = SlidingWindows(encoder, 64, 32)(documents(*texts))
    scores = encoder.encode_docs(windows["text"]) @ encoder.encode_queries(["finite group"])[0]
    parents = windows.assign(score=scores, parent=windows["docno"].str.split("%p").str[0])
    best = parents.sort_values("score", ascending=False).drop_duplicates("parent")
    assert list(out["docno"]) == list(best["parent"]) and len(out) == 4
    assert list(out["passage"]) == list(best["docno"])
    np.testing.assert_allclose(out["score"], best["score"], atol=1e-5)
    exclude = ExcludeDocuments({"1": ["d1", "d2"]})
    for excluding in (
        index.retriever() >> MaxPassage() >> exclude,
        index.retriever() >> exclude >> MaxPassage(),
        index.retriever(exclude=exclude) >> MaxPassage(),
    ):
        out = excluding.search("finite group")
        assert set(out["docno"]) == {"d0", "d3"} and sorted(out["rank"]) == [0, 1]


def test_results_are_cut_reranked_and_put_together_again(tiny_qwen2_reranker):
    reranker = RadarReranker(tiny_qwen2_reranker)
    frame = documents(LONG, "short", LONG[:1500]).assign(qid=["q1", "q1", "q2"], query="is it bounded?", score=1.0)
    frame = pt.model.add_ranks(frame)
    windows = SlidingWindows(reranker, 128, 64)
    out = (windows >> reranker >> MaxPassage())(frame)
    scored = reranker(windows(frame))
    assert len(out) == 3 and set(zip(out["qid"], out["docno"], strict=True)) == {
        ("q1", "d0"),
        ("q1", "d1"),
        ("q2", "d2"),
    }
    for _, row in out.iterrows():
        own = scored[(scored["qid"] == row["qid"]) & scored["docno"].str.startswith(row["docno"] + "%p")]
        assert row["score"] == own["score"].max()
        assert row["passage"] == own.loc[own["score"].idxmax(), "docno"]
        assert row["text"] == own.loc[own["score"].idxmax(), "text"]


scored = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(["d1", "d2", "x%py", "d%p3"]), st.integers(0, 9), st.integers(-3, 3)
    ),
    max_size=30,
    unique_by=lambda row: row[:3],
)


@given(scored)
def test_a_document_has_the_score_of_its_best_window(rows):
    frame = pd.DataFrame(rows, columns=["qid", "parent", "start", "score"]).astype({"score": float})
    frame["docno"] = frame["parent"] + "%p" + frame["start"].astype(str) + "-9"
    out = MaxPassage()(pt.model.add_ranks(frame.copy()))
    expected = frame.groupby(["qid", "parent"])["score"].max().to_dict()
    assert out.set_index(["qid", "docno"])["score"].to_dict() == expected
    windows = frame.set_index(["qid", "docno"])["score"].to_dict()
    assert [windows[pair] for pair in zip(out["qid"], out["passage"], strict=True)] == list(out["score"])
    for _, part in out.groupby("qid"):
        assert list(part["rank"]) == list(range(len(part))) and part["score"].is_monotonic_decreasing


def test_documents_that_are_no_windows_stay_and_pyterriers_own_reads_ours():
    frame = pd.DataFrame({"qid": "q", "docno": ["d1", "d2%p0-4", "d2%p2-9"], "score": [1.0, 2.0, 3.0]})
    out = MaxPassage()(frame)
    assert list(out["docno"]) == ["d2", "d1"] and list(out["passage"]) == ["d2%p2-9", "d1"]
    theirs = pt.text.max_passage()(frame.iloc[1:])
    assert list(theirs["docno"]) == ["d2"] and list(theirs["score"]) == [3.0]


def test_the_input_frames_are_not_changed(tiny_qwen2):
    frame = documents(LONG, "short").assign(qid="q", score=1.0)
    before = frame.copy(deep=True)
    MaxPassage()(frame)
    SlidingWindows(tiny_qwen2, 64)(frame)
    assert_frame_equal(frame, before)


def test_zero_rows_give_the_right_columns_without_loading_anything(tiny_qwen2, tiny_qwen2_reranker):
    windows = SlidingWindows(tiny_qwen2, 64)
    assert list(windows(documents()).columns) == ["docno", "text"]
    assert "tokenizer" not in vars(windows._reader.model)
    results = pd.DataFrame(columns=["qid", "query", "docno", "text", "score", "rank"])
    assert list(SlidingWindows(tiny_qwen2_reranker, 64)(results).columns) == list(results.columns)
    assert set(MaxPassage()(results).columns) == {*results.columns, "passage"}


def test_bad_input_is_refused_with_its_name(tiny_qwen2, tiny_qwen2_reranker):
    with pytest.raises(ValueError, match="docno 'd1' has nan in column 'text'"):
        SlidingWindows(tiny_qwen2, 64)(documents("a", None))
    with pytest.raises(ValueError, match="tokens is 9000: .* reads from 1 to 8192"):
        SlidingWindows(tiny_qwen2, 9000)
    with pytest.raises(ValueError, match="stride is 0"):
        SlidingWindows(tiny_qwen2, 64, 0)
    with pytest.raises(ValueError, match=r"docno 'd0': 9 tokens leave room for \d of the document, .*'document: '"):
        SlidingWindows(tiny_qwen2, 9)(documents(LONG))
    frame = documents(LONG).assign(qid="q1", query="word " * 90)
    with pytest.raises(ValueError, match="docno 'd0': 64 tokens leave room for 0 of the document, with 'query: Query"):
        SlidingWindows(tiny_qwen2_reranker, 64)(frame)
    with pytest.raises(pt.validate.InputValidationError):
        SlidingWindows(tiny_qwen2_reranker, 64)(documents(LONG))


def test_the_text_field_is_honoured(tiny_qwen2):
    windows = SlidingWindows(tiny_qwen2, 64, text_field="body")(documents(LONG).rename(columns={"text": "body"}))
    assert_frame_equal(windows.rename(columns={"body": "text"}), SlidingWindows(tiny_qwen2, 64)(documents(LONG)))


def test_equality_covers_every_setting(tiny_qwen2, tiny_qwen2_reranker):
    one = SlidingWindows(tiny_qwen2, 64, 32)
    assert one == SlidingWindows(Encoder(tiny_qwen2), 64) and hash(one) == hash(SlidingWindows(tiny_qwen2, 64))
    others = [
        SlidingWindows(tiny_qwen2, 63, 32),
        SlidingWindows(tiny_qwen2, 64, 31),
        SlidingWindows(tiny_qwen2, 64, 32, text_field="body"),
        SlidingWindows(tiny_qwen2_reranker, 64, 32),
        SlidingWindows(Encoder(tiny_qwen2, template=QUERY_PASSAGE), 64, 32),
        SlidingWindows(Reranker(tiny_qwen2_reranker, template="authors"), 64, 32),
    ]
    assert len({one, *others}) == 7
    assert MaxPassage() == MaxPassage() and hash(MaxPassage()) == hash(MaxPassage())


class TestWindowsAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return SlidingWindows("all-MiniLM-L6-v2", 64)


class TestMaxPassageAsTransformer(pt.testing.TransformerTestCase):
    @staticmethod
    def get_transformer():
        return MaxPassage()
