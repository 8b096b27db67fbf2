"""Files in, files out: every form that is accepted, and a clear error for everything else."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyterrier_radar._files import FileFormatError, read_documents, read_queries
from pyterrier_radar._trec import has_positives, read_exclusions, read_qrels, read_run, write_run

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60).filter(str.strip)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture
def write(tmp_path: Path):
    def to_file(content: str | bytes, name: str = "file.txt") -> Path:
        path = tmp_path / name
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return to_file


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


# --- documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["docno", "doc_id", "_id", "id"])
def test_the_docno_may_have_any_of_the_usual_names(write, name: str) -> None:
    assert list(read_documents(write(jsonl({name: "a", "text": "x"})))) == [{"docno": "a", "text": "x"}]


def test_a_title_is_put_in_front_of_the_text_and_other_fields_are_kept(write) -> None:
    path = write(jsonl({"docno": "a", "title": "Lagrange", "field": "algebra", "text": "order", "year": 1771}))
    expected = {"docno": "a", "title": "Lagrange", "field": "algebra", "text": "Lagrange order"}
    assert list(read_documents(path)) == [expected]


def test_a_named_text_field_is_read_as_it_stands(write) -> None:
    path = write(jsonl({"docno": "a", "title": "T", "text": "x", "statement": "y"}))
    assert next(read_documents(path, text_field="statement"))["text"] == "y"


def test_an_integer_docno_becomes_a_string(write) -> None:
    assert next(read_documents(write(jsonl({"id": 7, "contents": "x"}))))["docno"] == "7"


@pytest.mark.parametrize(
    "content",
    [
        "a\tfirst text\nb\tsecond\n",
        "docno\ttext\r\na\tfirst text\r\nb\tsecond\r\n",
        "\ufeffa\tfirst text\nb\tsecond",
    ],
)
def test_tsv_documents_need_no_header_and_may_have_one(write, content: str) -> None:
    assert [(d["docno"], d["text"]) for d in read_documents(write(content))] == [
        ("a", "first text"),
        ("b", "second"),
    ]


def test_gzip_is_known_by_its_content_not_its_name(write) -> None:
    path = write(gzip.compress(b'{"docno": "a", "text": "x"}\n'), "documents.jsonl")
    assert [d["docno"] for d in read_documents(path)] == ["a"]


def test_a_line_ends_at_a_newline_only(write) -> None:
    path = write('{"docno": "a", "text": "one\u2028two\x0cthree"}\n'.replace("\x0c", "\\f"))
    assert next(read_documents(path))["text"] == "one\u2028two\x0cthree"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ('{"docno": "a", "text": "x"}\n{"docno": "b", "te', 2, "not valid JSON"),
        ('{"docno": "a", "text": "x"}\n[1, 2]\n', 2, "a JSON list, not an object"),
        ("[" * 100_000, 1, "tab-separated"),
        ('{"docno": ' + "[" * 100_000, 1, "not valid JSON"),
        (jsonl({"docno": "a"}), 1, "document 'a' has no field 'text'"),
        (jsonl({"text": "x"}), 1, "has no docno"),
        (jsonl({"docno": None, "text": "x"}), 1, "must be a non-empty string"),
        (jsonl({"docno": " ", "text": "x"}), 1, "must be a non-empty string"),
        (jsonl({"docno": True, "text": "x"}), 1, "must be a non-empty string"),
        (jsonl({"docno": "a", "text": None}), 1, "'text' of document 'a' is null"),
        (jsonl({"docno": "a", "text": ["x"]}), 1, "is a list: it must be a string"),
        (
            jsonl({"docno": "a", "text": "x"}, {"docno": "a", "text": "y"}),
            2,
            "docno 'a' occurs a second time",
        ),
        (jsonl({"docno": "a", "text": " \n"}), 1, "document 'a' has an empty text"),
        ('{"docno": "a", "text": "\\ud800"}', 1, "half of a surrogate pair"),
        (b'{"docno": "a", "text": "x"}\n{"docno": "b", "text": "\xe9"}\n', 2, "not UTF-8"),
        ("a\tx\nb\ty\tz\n", 2, "3 tab-separated columns, not 2"),
        ("just some prose\n", 1, "1 tab-separated columns, not 2"),
    ],
)
def test_a_bad_document_is_named_by_file_and_line(write, content: str | bytes, line: int, message: str) -> None:
    path = write(content)
    with pytest.raises(FileFormatError) as caught:
        list(read_documents(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)


def test_empty_texts_can_be_skipped_or_kept(write) -> None:
    path = write(jsonl({"docno": "a", "text": ""}, {"docno": "b", "text": "x"}))
    assert [d["docno"] for d in read_documents(path, empty_text="skip")] == ["b"]
    assert [d["docno"] for d in read_documents(path, empty_text="keep")] == ["a", "b"]


def test_cut_off_gzip_data_is_an_error_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "documents.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(*({"docno": str(i), "text": "x" * i} for i in range(1, 500))).encode())[:-20])
    with pytest.raises(FileFormatError, match="gzip data is damaged or cut off"):
        list(read_documents(path))


def test_documents_are_streamed(write) -> None:
    documents = read_documents(write(jsonl({"docno": "a", "text": "x"}) + "broken"))
    assert next(documents)["docno"] == "a"


@in_one_folder
@given(st.dictionaries(WORDS, TEXTS, min_size=1, max_size=5))
def test_documents_written_as_json_come_back_unchanged(tmp_path: Path, texts: dict[str, str]) -> None:
    path = tmp_path / "documents.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(*({"docno": d, "text": t} for d, t in texts.items())).encode()))
    assert {d["docno"]: d["text"] for d in read_documents(path)} == texts


# --- queries -----------------------------------------------------------------------------------------------

TREC_TOPICS = """
<top>
<num> Number: 301
<title> International
 Organized Crime
<desc> Description:
Identify organisations.
</top>

<top><num>302</num><title>Is 2 < 3?</title></top>
"""


@pytest.mark.parametrize(
    "content",
    [
        jsonl({"qid": "1", "query": "two words"}, {"qid": "2", "query": "three"}),
        jsonl({"_id": "1", "text": "two words"}, {"_id": "2", "text": "three"}),
        "1\ttwo words\n2\tthree\n",
        "qid\tquery\n1\ttwo words\n2\tthree\n",
    ],
)
def test_queries_are_read_from_jsonl_and_tsv(write, content: str) -> None:
    queries = read_queries(write(content))
    assert queries.to_dict("list") == {"qid": ["1", "2"], "query": ["two words", "three"]}


def test_the_titles_of_trec_topics_are_the_queries(write) -> None:
    queries = read_queries(write(TREC_TOPICS))
    assert queries.to_dict("list") == {
        "qid": ["301", "302"],
        "query": ["International Organized Crime", "Is 2 < 3?"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no query"),
        ("1\tx\n1\ty\n", ":2: qid '1' occurs a second time"),
        ("1\t \n", ":1: query '1' has an empty text"),
        (jsonl({"qid": "1", "query": None}), ":1: 'query' of query '1' is null"),
        ("\n<top><num>3</num></top>", ":2: this <top> has no <num> or no <title>"),
        ("<top><num>3</num><title>unfinished", "holds no query"),
    ],
)
def test_a_bad_query_is_named_by_file_and_line(write, content: str, message: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        read_queries(write(content))
    assert message in str(caught.value)


# --- judgements and exclusions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 a 2\nq2 0 b 0\n",
        "query-id\tcorpus-id\tscore\nq1\ta\t2\nq2\tb\t0\n",
        "q1 0 a 2\nq2\t0\tb\t0\n",
        "qid docno label\nq1 a 2\nq2 b 0\n",
    ],
)
def test_judgements_are_read_from_trec_and_tsv(write, content: str) -> None:
    qrels = read_qrels(write(content))
    assert qrels.to_dict("list") == {"qid": ["q1", "q2"], "docno": ["a", "b"], "label": [2, 0]}
    assert qrels["label"].dtype == "int64"


def test_positives_beside_the_queries_are_judgements_of_grade_1(write) -> None:
    path = write(jsonl({"qid": "q1", "query": "x", "positives": ["a", "b"]}))
    assert read_qrels(path).to_dict("list") == {"qid": ["q1", "q1"], "docno": ["a", "b"], "label": [1, 1]}
    assert has_positives(path)
    assert not has_positives(write(jsonl({"qid": "q1", "query": "x"})))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 0 a\n", ":1: has 3 columns, not 4"),
        ("q1 0 a 1.5\n", ":1: the label '1.5' is not an integer"),
        ("q1 0 a 1\nq1 0 a 0\n", ":2: query 'q1' judges document 'a' a second time"),
        ("qid\tlabel\nq1\t1\n", ":1: the header has no docno column"),
        ("qid\tdocno\tlabel\nq1\t\t1\n", ":2: has an empty qid or docno"),
        (jsonl({"qid": "q1", "positives": "a"}), ":1: query 'q1' needs 'positives', a list"),
        ("", "holds no judgement"),
    ],
)
def test_a_bad_judgement_is_named_by_file_and_line(write, content: str, message: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        read_qrels(write(content))
    assert message in str(caught.value)


def test_exclusions_are_pairs_or_qrels_of_minus_100(write) -> None:
    assert read_exclusions(write("q1 a\nq1 b\nq2 a\n")) == {"q1": ["a", "b"], "q2": ["a"]}
    assert read_exclusions(write("q1 0 a -100\nq1 0 b 1\n")) == {"q1": ["a"]}
    with pytest.raises(FileFormatError, match=":1: has 3 columns"):
        read_exclusions(write("q1 a b\n"))


def test_a_qid_of_judgements_may_begin_with_a_brace(write) -> None:
    qrels = read_qrels(write('{ 0 d 1\n{"x Q0 e 2\n'))
    assert qrels.values.tolist() == [["{", "d", 1], ['{"x', "e", 2]]


# --- runs --------------------------------------------------------------------------------------------------

SCORES = st.floats(allow_nan=False, allow_infinity=False)


@in_one_folder
@given(st.dictionaries(WORDS, st.dictionaries(WORDS, SCORES, min_size=1, max_size=4), min_size=1, max_size=3))
@example({"{": {"d": 0.0}})
def test_a_run_comes_back_as_it_was_written(tmp_path: Path, scores: dict[str, dict[str, float]]) -> None:
    rows = [
        {"qid": qid, "docno": docno, "score": score, "rank": rank}
        for qid, ranking in scores.items()
        for rank, (docno, score) in enumerate(sorted(ranking.items(), key=lambda item: -item[1]))
    ]
    frame = pd.DataFrame(rows)
    write_run(frame, tmp_path / "system.run.gz")
    pd.testing.assert_frame_equal(read_run(tmp_path / "system.run.gz"), frame, check_exact=True)


def test_a_run_is_ranked_by_score_whatever_its_rank_column_says(write) -> None:
    run = read_run(write("q Q0 a 1 0.5 me\nq Q0 b 2 0.9 me\nq Q0 c 3 0.5 me\n"))
    assert list(run["docno"]) == ["b", "a", "c"]
    assert list(run["rank"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"docno": "two words"}, "docno 'two words' is empty or has white space"),
        ({"qid": ""}, "qid '' is empty"),
        ({"score": float("nan")}, "query 'q' scores document 'd' nan"),
    ],
)
def test_what_a_run_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path, row: dict, message: str) -> None:
    good = {"qid": "q", "docno": "d", "score": 1.0, "rank": 0}
    with pytest.raises(ValueError, match=message):
        write_run(pd.DataFrame([good, good | row]), tmp_path / "system.run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 d 1 0.5\n", ":1: has 5 columns, not 6"),
        ("q Q0 d 1 nan me\n", ":1: the score 'nan' is not a finite number"),
        ("q Q0 d 1 high me\n", ":1: the score 'high' is not a finite number"),
        ("q Q0 d 1 1 me\nq Q0 d 2 0 me\n", ":2: query 'q' ranks document 'd' a second time"),
    ],
)
def test_a_bad_run_line_is_named_by_file_and_line(write, content: str, message: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        read_run(write(content))
    assert message in str(caught.value)


# --- garbage -----------------------------------------------------------------------------------------------

LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.dictionaries(
                st.sampled_from(["qid", "docno", "text", "query", "positives", "title", "id"]), inner
            ),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
        st.sampled_from([b"<top>", b"<num> 3", b"<title> x", b"</top>", b"qid\tdocno\tlabel", b"\x1f\x8b\x08"]),
    ),
    max_size=6,
)


@settings(parent=in_one_folder, max_examples=150)
@given(LINES)
def test_garbage_gives_the_clear_error_or_nothing_worse(tmp_path: Path, lines: list[bytes]) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(b"\n".join(lines))
    for read in (
        lambda p: list(read_documents(p)),
        read_queries,
        read_qrels,
        read_exclusions,
        read_run,
        has_positives,
    ):
        try:
            read(path)
        except FileFormatError as error:
            assert str(error).startswith(str(path))
