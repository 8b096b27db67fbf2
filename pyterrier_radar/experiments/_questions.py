"""Questions with right answers, in TheoremQA's form: from a file, or from the hub."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pyterrier_radar._files import QID_NAMES, FileFormatError, check_unicode, identifier, parse_json, read_lines
from radar_answers import Gold

HUB_NAME = "TIGER-Lab/TheoremQA"
FILES = ("questions.jsonl", "questions.jsonl.gz", "questions.json", "theoremqa_test.json")

_QUESTION = ("question", "query", "problem", "text")
_ANSWER = ("answer", "gold")
_KIND = ("answer_type", "gold_type", "type")


def find_questions(folder: Path) -> Path:
    """Finds the file with the questions in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = next((path for name in FILES if (path := folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} has no questions: name the file {' or '.join(FILES)}")
    return found


def read_questions(path: str | Path) -> pd.DataFrame:
    """Reads questions with their right answers.

    Args:
        path: JSON lines, plain or gzip, or one JSON list (``.json``). A record has a question (``Question``, ``query``,
            ``problem`` or ``text``), an answer (``Answer`` or ``gold``: text, number, truth value or list), and where
            it is known ``Answer_type``: integer, float, list (of integer, of float), bool, option or text. Capitals
            don't matter. An id (``id``, ``qid``) is its place, counted from 0, where there is none; ``excluded_ids``
            are documents that no ranking may hold.

    Returns:
        a frame with ``qid``, ``query``, ``gold`` (text, number, truth value or list), ``gold_type`` and
        ``excluded_ids`` (a list).

    Raises:
        FileFormatError: a record is broken, an answer isn't of its type, or an id occurs twice.
        OSError: the file cannot be read.
    """
    path = Path(path)
    return _frame(path, _list(path) if path.suffix == ".json" else _lines(path))


def load_questions() -> pd.DataFrame:
    """Loads TheoremQA's test questions from the hub; see :func:`read_questions`.

    Raises:
        ImportError: ``datasets`` isn't installed.
        OSError: the hub cannot be reached.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{HUB_NAME} is read by datasets: pip install datasets, or name a folder with {FILES[0]} (--data)"
        ) from error
    try:
        test = load_dataset(HUB_NAME, split="test").select_columns(["Question", "Answer", "Answer_type"])
    except OSError as error:
        remedy = f"name a folder with {FILES[0]} (--data)"
        raise OSError(f"{HUB_NAME} can't be loaded from the hub ({error}): {remedy}") from error
    return _frame(Path(HUB_NAME), ((number, record) for number, record in enumerate(test, start=1)))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((line, parse_json(path, line, text)) for line, text in read_lines(path))


def _list(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        records = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, None, f"is not valid JSON ({error})") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise FileFormatError(path, None, "must be a JSON list of objects, one a question")
    return enumerate(records, start=1)


def _frame(path: Path, records: Iterable[tuple[int, dict[str, Any]]]) -> pd.DataFrame:
    rows: dict[str, tuple[str, Any, str | None, list[str]]] = {}
    for place, given in records:
        record = {name.lower(): value for name, value in given.items()}
        is_named = any(record.get(name) is not None for name in QID_NAMES)
        qid = identifier(path, place, record, QID_NAMES, "qid") if is_named else str(len(rows))
        if qid in rows:
            raise FileFormatError(path, place, f"qid {qid!r} occurs a second time: qids must be unique")
        question, answer, kind = (_first(record, names) for names in (_QUESTION, _ANSWER, _KIND))
        if not isinstance(question, str) or not question.strip():
            problem = f"question {qid!r} has no text: give it one as {' or '.join(_QUESTION)}"
            raise FileFormatError(path, place, problem)
        if kind is not None and not isinstance(kind, str):
            raise FileFormatError(path, place, f"the answer type of {qid!r} is {kind!r}: it must be a string")
        try:
            Gold.of(answer, kind)
        except ValueError as error:
            raise FileFormatError(path, place, f"the answer of {qid!r}: {error}") from error
        excluded = record.get("excluded_ids") or []
        if not isinstance(excluded, list) or not all(isinstance(docno, str) for docno in excluded):
            raise FileFormatError(path, place, f"excluded_ids of {qid!r} must be a list of document ids")
        rows[qid] = check_unicode(path, place, question, f"question {qid!r}"), answer, kind, excluded
    if not rows:
        raise FileFormatError(path, None, "holds no question")
    frame = pd.DataFrame(list(rows.values()), columns=["query", "gold", "gold_type", "excluded_ids"], dtype=object)
    return frame.assign(qid=list(rows))[["qid", "query", "gold", "gold_type", "excluded_ids"]].astype(
        {"qid": "str", "query": "str"}
    )


def _first(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
