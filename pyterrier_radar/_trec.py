"""Judgements, exclusions and runs: the files of an evaluation, in TREC's forms and their common relatives."""

import gzip
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pyterrier_radar._exclude import EXCLUDED_LABEL
from pyterrier_radar._files import (
    DOCNO_NAMES,
    QID_NAMES,
    FileFormatError,
    check_unicode,
    identifier,
    parse_json,
    read_lines,
)
from torch_radar.files import replacing

_COLUMN_NAMES = {
    "qid": QID_NAMES,
    "docno": (*DOCNO_NAMES, "corpus-id"),
    "label": ("label", "relevance", "score", "grade"),
}


def read_qrels(path: str | Path) -> pd.DataFrame:
    """Reads judgements from TREC qrels, TSV with a header, or JSONL queries that carry ``positives``.

    Args:
        path: lines ``qid 0 docno label``; or a header naming qid, docno and label columns (BEIR's
            ``query-id corpus-id score`` among them); or objects with a qid and a list ``positives`` of
            docnos, each of them grade 1.

    Returns:
        a frame with the columns ``qid`` and ``docno`` (strings) and ``label`` (int64).

    Raises:
        FileFormatError: for a broken line, a label that is no integer, or a pair judged twice.
        OSError: if the file cannot be read.
    """
    labels: dict[tuple[str, str], int] = {}
    for line, qid, docno, label in _judgements(path):
        if (qid, docno) in labels:
            problem = f"query {qid!r} judges document {docno!r} a second time: keep one judgement"
            raise FileFormatError(path, line, problem)
        labels[qid, docno] = label
    if not labels:
        raise FileFormatError(path, None, "holds no judgement")
    pairs = pd.DataFrame(list(labels), columns=["qid", "docno"], dtype=str)
    return pairs.assign(label=pd.Series(list(labels.values()), dtype="int64"))


def has_positives(path: str | Path) -> bool:
    """Tells whether a queries file is JSONL whose first query carries its judgements as ``positives``."""
    line, text = next(read_lines(path), (0, ""))
    return text.lstrip().startswith("{") and "positives" in parse_json(path, line, text)


def read_exclusions(path: str | Path) -> dict[str, list[str]]:
    """Reads the documents that are to be left out of each query's ranking.

    Args:
        path: lines ``qid docno``, or TREC qrels whose labels of -100 and below mark the excluded.

    Returns:
        the excluded docnos by qid.

    Raises:
        FileFormatError: where a line has neither two nor four columns.
        OSError: if the file cannot be read.
    """
    excluded: dict[str, list[str]] = {}
    for line, text in read_lines(path):
        cells = text.split()
        if len(cells) not in (2, 4):
            problem = f"has {len(cells)} columns: write 'qid docno', or TREC qrels with labels of {EXCLUDED_LABEL}"
            raise FileFormatError(path, line, problem)
        if len(cells) == 2:
            excluded.setdefault(cells[0], []).append(cells[1])
        elif _label(path, line, cells[3]) <= EXCLUDED_LABEL:
            excluded.setdefault(cells[0], []).append(cells[2])
    return excluded


def read_run(path: str | Path) -> pd.DataFrame:
    """Reads a run, plain or gzip: TREC's six columns, or JSON ``{qid: {docno: score}}`` as BRIGHT's code writes it.

    Returns:
        a frame with ``qid``, ``docno`` (strings), ``score`` (float64) and ``rank`` (int64, from 0); queries
        in the file's order, each ranked by descending score as trec_eval does, ties in the file's order.

    Raises:
        FileFormatError: for a broken line, a score that is no finite number, or a repeated pair.
        OSError: if the file cannot be read.
    """
    _, first_line = next(read_lines(path), (0, ""))
    by_query = _json_run(path) if _is_json(first_line) else _trec_run(path)
    rows = [
        (qid, docno, score, rank)
        for qid, ranking in by_query.items()
        for rank, (docno, score) in enumerate(sorted(ranking.items(), key=lambda item: -item[1]))
    ]
    frame = pd.DataFrame(rows, columns=["qid", "docno", "score", "rank"])
    return frame.astype({"qid": str, "docno": str, "score": "float64", "rank": "int64"})


def _is_json(line: str) -> bool:
    """Whether a line begins a JSON object; a qid may begin with a brace too, and TREC's second column follows it."""
    return line.lstrip().startswith("{") and line.split()[1:2] not in (["Q0"], ["0"])


def _trec_run(path: str | Path) -> dict[str, dict[str, float]]:
    by_query: dict[str, dict[str, float]] = {}
    for line, text in read_lines(path):
        cells = text.split()
        if len(cells) != 6:
            raise FileFormatError(path, line, f"has {len(cells)} columns, not 6: 'qid Q0 docno rank score name'")
        qid, _, docno, _, score, _ = cells
        ranking = by_query.setdefault(qid, {})
        if docno in ranking:
            raise FileFormatError(path, line, f"query {qid!r} ranks document {docno!r} a second time")
        ranking[docno] = _score(path, line, score)
    return by_query


def _json_run(path: str | Path) -> dict[str, dict[str, float]]:
    """Reads ``{qid: {docno: score}}``; a name that occurs twice in an object is refused, as in a TREC run."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names: dict[str, object] = {}
        for name, value in pairs:
            if name in names:
                raise FileFormatError(path, None, f"{name!r} occurs a second time: keep one")
            names[name] = value
        return names

    text = "\n".join(line for _, line in read_lines(path))
    try:
        content = json.loads(text, object_pairs_hook=once)
    except FileFormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            path, None, f"is not valid JSON ({error}): {{qid: {{docno: score}}}} is expected"
        ) from error
    by_query: dict[str, dict[str, float]] = {}
    for qid, scores in content.items():
        check_unicode(path, None, qid, "a qid")
        if not isinstance(scores, dict):
            problem = f"query {qid!r} has {str(scores)[:40]!r}: an object of scores by docno is expected"
            raise FileFormatError(path, None, problem)
        ranking = by_query.setdefault(qid, {})
        for docno, score in scores.items():
            check_unicode(path, None, docno, f"a docno of query {qid!r}")
            # compared, not converted: an integer may be beyond what a float holds
            if type(score) not in (int, float) or not abs(score) <= sys.float_info.max:
                problem = f"query {qid!r} gives {docno!r} {str(score)[:20]!r}: a finite number is expected"
                raise FileFormatError(path, None, problem)
            ranking[docno] = float(score)
    return by_query


def write_run(frame: pd.DataFrame, path: str | Path, *, name: str = "radar") -> None:
    """Writes a results frame as a TREC run; gzip where the file name ends in ``.gz``.

    The file appears under its name only when it is whole.  Scores keep their full precision.

    Args:
        frame: a frame with ``qid``, ``docno``, ``score`` and ``rank``.
        path: the file to write; its folder is made.
        name: the run's name, the last column.

    Raises:
        ValueError: for a qid, docno or name with white space, which the format cannot hold, or a score that
            is not finite; the message names the record.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    _check_word(name, "run name")
    with replacing(path) as aside, open(aside, "wb") as raw:
        # mtime=0 leaves the time of writing out, so equal runs are equal files
        target = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else raw
        for line in _run_lines(frame, name):
            target.write(line.encode("utf-8"))
        if target is not raw:
            target.close()


def _run_lines(frame: pd.DataFrame, name: str) -> Iterator[str]:
    for qid, docno, rank, score in zip(frame["qid"], frame["docno"], frame["rank"], frame["score"], strict=True):
        _check_word(qid, "qid")
        _check_word(docno, "docno")
        if not math.isfinite(score):
            raise ValueError(f"query {qid!r} scores document {docno!r} {score}: a run needs finite scores")
        yield f"{qid} Q0 {docno} {int(rank)} {float(score)!r} {name}\n"


def _check_word(word: str, what: str) -> None:
    if word.split() != [word]:
        raise ValueError(f"the {what} {word!r} is empty or has white space, which a TREC run cannot hold: rename it")


def _judgements(path: str | Path) -> Iterator[tuple[int, str, str, int]]:
    """Yields (line, qid, docno, label) from any of the three forms."""
    separator, columns, width = None, {"qid": 0, "docno": 2, "label": 3}, 4
    for index, (line, text) in enumerate(read_lines(path)):
        if _is_json(text):
            yield from _positives(path, line, text)
            continue
        if index == 0 and text.split()[0].lower() in QID_NAMES:
            separator = "\t" if "\t" in text else None
            names = [cell.strip().lower() for cell in text.split(separator)]
            columns, width = _columns(path, line, names), len(names)
            continue
        cells = [cell.strip() for cell in text.split(separator)]
        if len(cells) != width:
            problem = f"has {len(cells)} columns, not {width}: 'qid 0 docno label', or TSV with a header line"
            raise FileFormatError(path, line, problem)
        qid, docno = cells[columns["qid"]], cells[columns["docno"]]
        if not qid or not docno:
            raise FileFormatError(path, line, "has an empty qid or docno")
        yield line, qid, docno, _label(path, line, cells[columns["label"]])


def _columns(path: str | Path, line: int, names: list[str]) -> dict[str, int]:
    """Finds the columns that a header names."""
    columns: dict[str, int] = {}
    for key, accepted in _COLUMN_NAMES.items():
        position = next((i for i, n in enumerate(names) if n in accepted and i not in columns.values()), None)
        if position is None:
            raise FileFormatError(path, line, f"the header has no {key} column: call it {' or '.join(accepted)}")
        columns[key] = position
    return columns


def _positives(path: str | Path, line: int, text: str) -> Iterator[tuple[int, str, str, int]]:
    record = parse_json(path, line, text)
    qid = identifier(path, line, record, QID_NAMES, "qid")
    positives = record.get("positives")
    if not isinstance(positives, list) or not all(isinstance(docno, str) and docno for docno in positives):
        problem = f"query {qid!r} needs 'positives', a list of docnos (strings), to serve as judgements"
        raise FileFormatError(path, line, problem)
    for docno in positives:
        yield line, qid, check_unicode(path, line, docno, f"a positive of query {qid!r}"), 1


def _label(path: str | Path, line: int, cell: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", cell):
        raise FileFormatError(path, line, f"the label {cell!r} is not an integer")
    return int(cell)


def _score(path: str | Path, line: int, cell: str) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise FileFormatError(path, line, f"the score {cell!r} is not a finite number")
    return score
