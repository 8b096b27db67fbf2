"""Training data: every form that is read, everything that is refused, and what it costs in memory."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import (
    DataError,
    Documents,
    Example,
    Negative,
    TrainingSet,
    concatenate,
    from_qrels,
    read_examples,
    read_tevatron,
    write_examples,
)

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def training_data(draw: st.DrawFn) -> tuple[dict[str, str], list[Example]]:
    bodies = draw(st.dictionaries(WORDS, st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=6))
    # numbered, so that no negative has the positive's text
    texts = {docno: f"{number} {body}" for number, (docno, body) in enumerate(bodies.items())}
    docnos = st.permutations(list(texts))
    examples = []
    for _ in range(draw(st.integers(1, 4))):
        positive, *others = draw(docnos)
        cut = draw(st.integers(0, len(others)))
        negatives = tuple(Negative(docno, draw(WORDS)) for docno in others[:cut])
        provenance = draw(st.dictionaries(WORDS, JSON, max_size=3))
        examples.append(
            Example(draw(WORDS), draw(WORDS), draw(WORDS), positive, negatives, tuple(others[cut:]), provenance)
        )
    return texts, examples


def record(**changes: Any) -> dict[str, Any]:
    """A good record of our format, changed; a change to ``...`` removes the key."""
    good = {
        "query_id": "q1",
        "query": "why is it compact",
        "query_type": "question",
        "positive": {"docno": "a", "text": "Heine–Borel"},
        "negatives": [{"docno": "b", "text": "Zorn", "origin": "bm25"}],
    }
    return {key: value for key, value in (good | changes).items() if value is not ...}


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def texts_of(documents: Documents) -> dict[str, str]:
    return {docno: documents.text(docno) for docno in documents.docnos()}


# --- documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("docno", ["docno", "_id", "doc_id"])
@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_documents_are_read_from_every_form_with_the_title_in_front(tmp_path: Path, form: str, docno: str) -> None:
    rows = [{docno: "a", "title": "Zorn", "text": "maximal"}, {docno: "b", "title": None, "text": "chain\u2028end"}]
    path = tmp_path / f"corpus.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    documents = Documents.from_files(path, tmp_path / "cache")
    assert texts_of(documents) == {"a": "Zorn maximal", "b": "chain\u2028end"}
    assert [documents.number(d) for d in documents.docnos()] == [0, 1]
    assert "a" in documents and "c" not in documents and len(documents) == 2


def test_other_text_fields_may_be_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "c.jsonl", {"docno": "a", "statement": "S", "proof": "P", "text": "T"})
    assert Documents.from_files(path, tmp_path, text_fields=("statement", "proof")).text("a") == "S P"


def test_an_equal_duplicate_is_one_document(tmp_path: Path) -> None:
    files = [jsonl(tmp_path / name, {"docno": "a", "text": "x"}, {"docno": "a", "text": "x"}) for name in ("1", "2")]
    assert Documents.from_files(files, tmp_path / "cache").docnos() == ["a"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"docno": "b", "text": None}, "text of document 'b' is null"),
        ({"docno": "b", "text": float("nan")}, "text of document 'b' is nan"),
        ({"docno": "b", "title": "t", "text": None}, "text of document 'b' is null"),
        ({"docno": "b", "title": 3, "text": "x"}, "text of document 'b' is 3"),
        ({"docno": "b", "text": " \n"}, "text of document 'b' is empty"),
        ({"docno": "b", "text": ["x"]}, "is a list"),
        ({"docno": "b", "contents": "x"}, "document 'b' has no field 'text'; it has contents, docno"),
        ({"text": "x"}, "has no docno"),
        ({"docno": None, "text": "x"}, "the docno in 'docno' is null"),
        ({"docno": "a", "text": "other"}, "docno 'a' has another text in .*:1"),
        ({"docno": "b", "text": "\ud800"}, "half of a surrogate pair"),
        ([], "is a JSON list"),
    ],
)
def test_a_bad_document_is_named_by_file_line_and_docno(tmp_path: Path, bad: object, message: str) -> None:
    path = jsonl(tmp_path / "c.jsonl", {"docno": "a", "text": "x"}, bad)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}:2: .*{message}"):
        Documents.from_files(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())  # nothing half-written stays


def test_a_text_that_differs_between_files_names_both_places(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "1.jsonl", {"docno": "x", "text": "x"}, {"docno": "a", "text": "one"})
    second = jsonl(
        tmp_path / "2.jsonl", {"docno": "y", "text": "y"}, {"docno": "z", "text": "z"}, {"docno": "a", "text": "2"}
    )
    with pytest.raises(DataError, match=f"{second}:3: .*'a' has another text in {first}:2"):
        Documents.from_files([first, second], tmp_path / "cache")


def test_a_second_call_reads_the_cache_and_a_changed_file_does_not(tmp_path: Path) -> None:
    path, cache = jsonl(tmp_path / "c.jsonl", {"docno": "a", "text": "old"}), tmp_path / "cache"
    first = Documents.from_files(path, cache)
    (table,) = cache.iterdir()
    before = table.stat()
    assert Documents.from_files(path, cache).fingerprint == first.fingerprint
    assert table.stat().st_mtime_ns == before.st_mtime_ns and table.stat().st_ino == before.st_ino
    assert Documents.from_files(path, cache, text_fields=("text",)).fingerprint != first.fingerprint
    jsonl(path, {"docno": "a", "text": "new"})
    os.utime(path, ns=(1, 1))
    assert Documents.from_files(path, cache).text("a") == "new"
    assert first.text("a") == "old"


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    path, cache = jsonl(tmp_path / "c.jsonl", {"docno": "a", "text": "x"}), tmp_path / "cache"
    Documents.from_files(path, cache)
    (table,) = cache.iterdir()
    table.write_bytes(b"no table at all")
    with pytest.raises(DataError, match="delete it"):
        Documents.from_files(path, cache)


@pytest.mark.parametrize("bad", [{"a": None}, {"a": ""}, {"a": float("nan")}, {"": "x"}, {1: "x"}])
def test_texts_given_in_memory_are_checked_too(bad: dict) -> None:
    with pytest.raises(DataError, match="the texts given"):
        Documents.from_texts(bad)


def test_an_unknown_docno_is_named() -> None:
    for look_up in (Documents.from_texts({"a": "x"}).text, Documents.from_texts({"a": "x"}).number):
        with pytest.raises(DataError, match="no document 'b' in texts given in memory"):
            look_up("b")


# --- our format --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("inline", [True, False])
@given(data=training_data())
@in_one_folder
def test_what_is_written_is_read_back_equal(tmp_path: Path, suffix: str, inline: bool, data: Any) -> None:
    texts, examples = data
    documents = Documents.from_texts(texts)
    path = tmp_path / f"set{suffix}"
    write_examples(path, examples, documents if inline else None)
    read = read_examples(path, None if inline else documents, cache=tmp_path / os.urandom(8).hex())
    assert list(read) == examples
    assert [read[i] for i in range(len(read))] == examples
    named = {d for e in examples for d in (e.positive, *(n.docno for n in e.negatives))}
    assert {d: read.documents.text(d) for d in named} == {d: texts[d] for d in named}


def test_a_record_needs_little(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "set.jsonl", record(query_id=..., query_type=..., negatives=[]))
    assert list(read_examples(path, cache=tmp_path)) == [Example("set-1", "why is it compact", "question", "a")]


def test_a_text_may_be_left_out_where_an_earlier_line_or_the_documents_hold_it(tmp_path: Path) -> None:
    later = record(positive={"docno": "b"}, negatives=[{"docno": "c", "origin": "dense"}], also_relevant=["unseen"])
    path = jsonl(tmp_path / "set.jsonl", record(), later)
    read = read_examples(path, Documents.from_texts({"c": "Cauchy", "a": "Heine–Borel"}), cache=tmp_path)
    assert read[1] == Example("q1", "why is it compact", "question", "b", (Negative("c", "dense"),), ("unseen",))
    assert texts_of(read.documents) == {"c": "Cauchy", "a": "Heine–Borel", "b": "Zorn"}
    assert [read.documents.number(d) for d in "cab"] == [0, 1, 2]


def test_documents_stay_themselves_where_a_file_adds_none(tmp_path: Path) -> None:
    documents = Documents.from_texts({"a": "Heine–Borel", "b": "Zorn"})
    assert read_examples(jsonl(tmp_path / "set.jsonl", record()), documents, cache=tmp_path).documents is documents


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(query=...), "has no 'query'"),
        (record(query=" "), "query is empty"),
        (record(query=7), "query is 7"),
        (record(query_id=""), "query_id is empty"),
        (record(query_type=[]), "query_type is a list"),
        (record(positive=...), "has no 'positive'"),
        (record(positive="a"), "positive is a str"),
        (record(positive={"text": "x"}), "positive has no 'docno'"),
        (record(positive={"docno": "a", "text": ""}), "the text of positive, docno 'a', is empty"),
        (record(positive={"docno": "a", "title": "x"}), "positive has an unknown key 'title'"),
        (record(negatives=...), r"has no 'negatives'; write \[\]"),
        (record(negatives={}), "negatives is a dict"),
        (record(negatives=[{"docno": "b", "text": "x"}]), "negative 1 has no 'origin'"),
        (record(negatives=[{"docno": "a", "origin": "bm25"}]), "negative 'a' is the positive itself"),
        (
            record(negatives=[{"docno": "c", "text": "Heine–Borel", "origin": "o"}]),
            "'c' has the text of the positive 'a'",
        ),
        (record(negatives=[{"docno": "z", "origin": "o"}]), "docno 'z' has no text"),
        (record(positive={"docno": "z"}), "docno 'z' has no text"),
        (record(positive={"docno": "a", "text": "other"}), "docno 'a' has another text in .*:1"),
        (record(negatives=[{"docno": "d", "text": "other", "origin": "o"}]), "'d' has another text in texts given"),
        (record(also_relevant="b"), "also_relevant is a str"),
        (record(also_relevant=["b"]), "'b' is a negative and in also_relevant"),
        (record(also_relevent=["b"]), "unknown key 'also_relevent': did you mean 'also_relevant'"),
        (record(provenance=[1]), "provenance is a JSON list"),
        (record(provenance={"x": float("nan")}), "provenance is not plain JSON"),
        ([], "is a JSON list"),
    ],
)
def test_a_bad_example_is_named_by_file_and_line(tmp_path: Path, bad: object, message: str) -> None:
    path = jsonl(tmp_path / "set.jsonl", record(), bad)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}:2: .*{message}"):
        read_examples(path, Documents.from_texts({"d": "Dedekind"}), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("content", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_a_file_without_an_example_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="holds no example"):
        read_examples(path, cache=tmp_path / "cache")


@pytest.mark.parametrize("reader", [read_examples, read_tevatron])
@given(content=st.data())
@in_one_folder
def test_a_broken_line_is_never_anything_but_a_data_error(tmp_path: Path, reader: Any, content: st.DataObject) -> None:
    good = json.dumps(
        record() | {"positive_passages": [{"text": "x"}], "negative_passages": [{"docid": 1, "title": "", "text": "y"}]}
    ).encode()
    value = st.recursive(JSON | st.just(float("nan")), lambda v: st.lists(v, max_size=2), max_leaves=3)
    shape = content.draw(st.sampled_from(["bytes", "cut", "value", "object", "flip"]))
    if shape == "bytes":
        line = content.draw(st.binary(max_size=40))
    elif shape == "cut":
        line = good[: content.draw(st.integers(0, len(good)))]
    elif shape == "value":
        line = json.dumps(content.draw(value)).encode()
    elif shape == "object":
        broken = json.loads(good)
        broken[content.draw(st.sampled_from(sorted(broken)))] = content.draw(value)
        line = json.dumps(broken).encode()
    else:
        place = content.draw(st.integers(0, len(good) - 1))
        line = good[:place] + content.draw(st.binary(min_size=1, max_size=2)) + good[place + 1 :]
    data = line if content.draw(st.booleans()) else gzip.compress(line)[: content.draw(st.integers(4, 200))]
    path = tmp_path / "set.jsonl"
    path.write_bytes(data)
    try:
        assert len(reader(path, cache=tmp_path / os.urandom(8).hex())) > 0
    except DataError as error:
        assert str(error).startswith(str(path))


@given(cut=st.integers(4, 3000), flip=st.integers(4, 3000))
@in_one_folder
def test_damaged_parquet_is_never_anything_but_a_data_error(tmp_path: Path, cut: int, flip: int) -> None:
    path = tmp_path / "set.parquet"
    write_examples(path, [Example("q", "query", "question", "a", (Negative("b", "o"),))])
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 0xFF
    path.write_bytes(bytes(data[: max(4, cut)]))
    try:
        read_examples(path, Documents.from_texts({"a": "x", "b": "y"}), cache=tmp_path / os.urandom(8).hex())
    except DataError as error:
        assert str(error).startswith(str(path))


def test_a_second_reading_uses_the_cache_and_other_documents_do_not(tmp_path: Path) -> None:
    path, cache = jsonl(tmp_path / "set.jsonl", record(positive={"docno": "d"})), tmp_path / "cache"
    documents = Documents.from_texts({"d": "Dedekind"})
    first = read_examples(path, documents, cache=cache)
    tables = {table: table.stat().st_ino for table in cache.iterdir()}
    assert list(read_examples(path, documents, cache=cache)) == list(first)
    assert {table: table.stat().st_ino for table in cache.iterdir()} == tables
    with pytest.raises(DataError, match="docno 'd' has no text"):
        read_examples(path, Documents.from_texts({"e": "Euler"}), cache=cache)


# --- writing -----------------------------------------------------------------------------------------------

EXAMPLE = Example("q", "query", "question", "a")


@pytest.mark.parametrize(
    ("examples", "documents", "message"),
    [
        ([], None, "no example to write"),
        ([EXAMPLE, Example("q", "", "question", "a")], None, ":2: query is empty"),
        ([Example("q", "\ud800", "question", "a")], None, "half of a surrogate pair"),
        ([Example("q", "x", "question", "a", (Negative("a", "o"),))], None, "is the positive itself"),
        ([Example("q", "x", "question", "a", (Negative("b", "o"),), ("b",))], None, "in also_relevant"),
        ([Example("q", "x", "question", "a", provenance={"set": {1}})], None, "not plain JSON"),
        ([Example("q", "x", "question", "a", provenance={"pair": (1, 2)})], None, "read back differently"),
        ([EXAMPLE], {"b": "x"}, "docno 'a' has no text"),
        ([Example("q", "x", "question", "a", (Negative("b", "o"),))], {"a": "x", "b": "x"}, "the text of the positive"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, examples: Any, documents: Any, message: str
) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("what was there before")
    with pytest.raises(DataError, match=message):
        write_examples(path, examples, documents and Documents.from_texts(documents))
    assert path.read_text() == "what was there before" and list(tmp_path.iterdir()) == [path]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must end in .jsonl, .jsonl.gz, .parquet"):
        write_examples(tmp_path / "set.csv", [EXAMPLE])


def test_equal_examples_give_equal_gzip_files(tmp_path: Path) -> None:
    for name in ("1.jsonl.gz", "2.jsonl.gz"):
        write_examples(tmp_path / name, [EXAMPLE])
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()


# --- Tevatron, qrels, several sets -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_several_positives_of_a_published_query_are_an_example_each(tmp_path: Path, form: str) -> None:
    published = {
        "query_id": "7",
        "query": "q",
        "positive_passages": [{"docid": "a", "title": "T", "text": "x"}, {"docid": "b", "title": "", "text": "y"}],
        "negative_passages": [{"docid": None, "title": "", "text": "z"}],
    }
    path = tmp_path / f"train.{form}"
    if form == "jsonl":
        jsonl(path, published)
    else:
        pq.write_table(pa.Table.from_pylist([published]), path)
    read = read_tevatron(path, cache=tmp_path / "cache")
    (negative,) = read[0].negatives
    assert read[0] == Example("7", "q", "question", "a", (negative,), ("b",))
    assert read[1] == Example("7", "q", "question", "b", (negative,), ("a",))
    assert negative.origin == "published" and re.fullmatch("[0-9a-f]{16}", negative.docno)
    assert texts_of(read.documents) == {"a": "T x", "b": "y", negative.docno: "z"}


def test_a_published_query_type_is_kept(tmp_path: Path) -> None:
    published = {"query": "q", "query_type": "cot", "positive_passages": [{"text": "x"}], "negative_passages": []}
    (example,) = read_tevatron(jsonl(tmp_path / "train.jsonl", published), cache=tmp_path / "cache")
    assert (example.query_id, example.query_type) == ("train-1", "cot")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positive_passages": []}, "positive_passages is empty"),
        ({"negative_passages": None}, "negative_passages must be a list"),
        ({"negative_passages": [{"docid": "n"}]}, "passage 1 of negative_passages has no field 'text'"),
        ({"negative_passages": [{"docid": "n", "text": "x"}]}, "'n' has the text of the positive"),
    ],
)
def test_a_bad_published_line_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    good = {"query": "q", "positive_passages": [{"text": "x"}], "negative_passages": []}
    path = jsonl(tmp_path / "train.jsonl", good, good | changes)
    with pytest.raises(DataError, match=f"{path}:2: .*{message}"):
        read_tevatron(path, cache=tmp_path / "cache")


def test_qrels_give_an_example_for_each_relevant_document(tmp_path: Path) -> None:
    documents = Documents.from_texts({"a": "x", "b": "y", "c": "z"})
    qrels = {"1": {"a": 1, "b": 2, "c": -100}, "2": {"c": 0}, "other": {"a": 1}}
    read = from_qrels(documents, {"1": "q", "2": "r", "3": "s"}, qrels, cache=tmp_path)
    assert list(read) == [
        Example("1", "q", "question", "a", (), ("b",)),
        Example("1", "q", "question", "b", (), ("a",)),
    ]
    assert read.documents is documents


def test_qrels_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    documents = Documents.from_texts({"a": "x"})
    with pytest.raises(DataError, match="query '1': docno 'gone' has no text"):
        from_qrels(documents, {"1": "q"}, {"1": {"gone": 1}}, cache=tmp_path)
    with pytest.raises(DataError, match="same query ids"):
        from_qrels(documents, {"1": "q"}, {"one": {"a": 1}}, cache=tmp_path)
    with pytest.raises(DataError, match="query '1' is empty"):
        from_qrels(documents, {"1": ""}, {"1": {"a": 1}}, cache=tmp_path)


def test_sets_are_joined_and_keep_the_numbers_of_the_first(tmp_path: Path) -> None:
    first = read_examples(jsonl(tmp_path / "1.jsonl", record()), cache=tmp_path / "cache")
    other = record(positive={"docno": "c", "text": "Cauchy"})
    second = read_examples(jsonl(tmp_path / "2.jsonl", other), cache=tmp_path / "cache")
    both = concatenate([first, second, first])
    assert list(both) == [first[0], second[0], first[0]]
    assert both.documents.docnos() == ["a", "b", "c"]
    assert texts_of(both.documents) == {"a": "Heine–Borel", "b": "Zorn", "c": "Cauchy"}
    with pytest.raises(DataError, match="no training sets"):
        concatenate([])


def test_sets_that_disagree_on_a_text_are_both_named(tmp_path: Path) -> None:
    paths = [jsonl(tmp_path / f"{t}.jsonl", record(positive={"docno": "a", "text": t})) for t in ("one", "two")]
    with pytest.raises(DataError, match=f"'a' has one text in {paths[0]} and another in {paths[1]}"):
        concatenate([read_examples(path, cache=tmp_path / "cache") for path in paths])


def test_a_selection_of_rows_is_a_training_set(tmp_path: Path) -> None:
    read = read_examples(jsonl(tmp_path / "1.jsonl", record(), record(query_id="q2")), cache=tmp_path / "cache")
    assert [example.query_id for example in TrainingSet(read.examples.select([1]), read.documents)] == ["q2"]
    with pytest.raises(IndexError):
        read[2]


# --- memory ------------------------------------------------------------------------------------------------

_READ_ALL = """
import re, sys
from pathlib import Path
from training.data import read_examples

read = read_examples(sys.argv[1], cache=sys.argv[2])
characters = sum(len(read.documents.text(example.positive)) for example in read)
status = Path("/proc/self/status").read_text()
print(len(read), *(re.search(name + r":\\s+(\\d+)", status)[1] for name in ("VmHWM", "RssAnon")))
"""


def memory_of_reading(path: Path, cache: Path) -> tuple[int, int, int]:
    """Rows, peak resident MiB, and the anonymous MiB (all but mapped files) at the end, of a process of its own."""
    result = subprocess.run([sys.executable, "-c", _READ_ALL, path, cache], capture_output=True, text=True, check=True)
    rows, peak, anonymous = map(int, result.stdout.split())
    return rows, peak // 1024, anonymous // 1024


def write_rows(path: Path, rows: int, corpus: int = 5_000) -> Path:
    """A file of ``rows`` examples with four inline texts each, over a corpus of a fixed size."""
    filler = "every bounded sequence of real numbers has a convergent part " * 5
    with open(path, "w", encoding="utf-8") as file:
        for row in range(rows):
            named = [
                {"docno": f"d{(row * 7 + k) % corpus}", "text": f"{(row * 7 + k) % corpus} {filler}"} for k in range(4)
            ]
            negatives = [one | {"origin": "bm25"} for one in named[1:]]
            file.write(json.dumps(record(query_id=f"q{row}", positive=named[0], negatives=negatives)) + "\n")
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    few, many = 2_000, 40_000
    _, small, _ = memory_of_reading(write_rows(tmp_path / "few.jsonl", few), tmp_path / "cache")
    rows, large, _ = memory_of_reading(write_rows(tmp_path / "many.jsonl", many), tmp_path / "cache")
    assert rows == many
    grown = (tmp_path / "many.jsonl").stat().st_size >> 20
    assert grown > 50 and large - small < 25, f"{large - small} MiB more for a file of {grown} MiB"
