"""JSON lines: every record with its place, and whatever else a file holds named by file, line and remedy."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from synthesis.decontaminate import EvaluationQueries
from synthesis.lines import json_lines
from synthesis.problems import ProblemError, read_problems
from synthesis.retriever import CorpusError, read_corpus

READERS = [
    (read_problems, ProblemError),
    (read_corpus, CorpusError),
    (lambda path: EvaluationQueries.from_files([path]), ValueError),
]
WHOLE = b'{"id": "a", "text": "one", "answer": "1"}\n'
BAD = [
    (WHOLE + b'{"id": ', r"bad.jsonl:2: not JSON in UTF-8 \(.*\): one object a line is expected"),
    (WHOLE + b"\n" + b"[" * 100_000, r"bad.jsonl:3: not JSON"),
    (WHOLE + b"\n\n" + b'{"id": ' + b"9" * 5000, r"bad.jsonl:4: not JSON"),
    (WHOLE + b'{"id": "\xff"}', r"bad.jsonl:2: not JSON in UTF-8"),
]


@pytest.mark.parametrize(("read", "kind"), READERS, ids=["problems", "corpus", "queries"])
@pytest.mark.parametrize(("content", "said"), BAD, ids=["cut", "deep", "huge", "latin-1"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_is_no_json_is_named_by_file_and_number(read, kind, content, said, suffix, tmp_path: Path):
    path = tmp_path / f"bad.jsonl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(kind, match=said.replace("jsonl", f"jsonl{suffix}")):
        read(path)


@pytest.mark.parametrize(("read", "kind"), READERS, ids=["problems", "corpus", "queries"])
def test_damaged_gzip_data_is_named_with_what_to_do(read, kind, tmp_path: Path):
    path = tmp_path / "bad.jsonl.gz"
    whole = gzip.compress(WHOLE + b'{"id": "b", "text": "' + os.urandom(9999).hex().encode() + b'"}\n')
    for damaged in (whole[: len(whole) // 2], whole[:500] + bytes(100) + whole[600:], WHOLE):
        path.write_bytes(damaged)
        with pytest.raises(kind, match=r"bad.jsonl.gz:[12]: the gzip data is damaged or cut off \(.*\): copy it again"):
            read(path)


def test_records_come_with_their_places_one_at_a_time(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'\n{"a": "\xc3\xa9\\ud800"}\r\n  \n[1]\nbroken')
    records = json_lines(path)
    places, values = zip(next(records), next(records), strict=True)
    assert [str(place) for place in places] == [f"{path}:2", f"{path}:4"] and [place.line for place in places] == [2, 4]
    assert values == ({"a": "é\ud800"}, [1])
    with pytest.raises(ValueError, match="lines.jsonl:5: not JSON"):
        next(records)
