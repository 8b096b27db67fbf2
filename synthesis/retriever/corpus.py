"""The theorems themselves, in memory, each with a docno and a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from synthesis.lines import HALF_A_PAIR, json_lines

_DOCNO_NAMES = ("docno", "_id", "doc_id", "id")
# What breaks the line-based files that docnos are written to, and what UTF-8 cannot hold.
_NOT_IN_DOCNOS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")

Corpus = Mapping[str, str] | Iterable[Mapping[str, Any]]
"""Texts by docno, or records with ``docno`` (or ``_id``, ``doc_id``, ``id``) and ``text``."""


class CorpusError(ValueError):
    """A theorem that cannot be used; the message names it."""


def read_corpus(path: str | Path) -> dict[str, str]:
    """Reads a corpus of JSON lines, gzipped or not; a ``title`` becomes the line before the text.

    Returns:
        Texts by docno, in the order of the file.

    Raises:
        CorpusError: For a line that is no record, a docno that is missing, unusable or there already, or a blank text.
        OSError: If the file cannot be read.
    """
    texts: dict[str, str] = {}
    for place, record in json_lines(Path(path), CorpusError):
        _add(texts, place, record)
    if not texts:
        raise CorpusError(f"{path} holds no theorem")
    return texts


def theorem_texts(corpus: Corpus) -> dict[str, str]:
    """Returns the texts of a corpus by docno, checked.

    Raises:
        CorpusError: See :func:`read_corpus`.
    """
    texts: dict[str, str] = {}
    records: Iterable[Any] = corpus
    if isinstance(corpus, Mapping):
        records = ({"docno": docno, "text": text} for docno, text in corpus.items())
    for number, record in enumerate(records):
        _add(texts, f"theorem {number}, counted from 0", record)
    if not texts:
        raise CorpusError("the corpus holds no theorem")
    return texts


def corpus_digest(texts: Mapping[str, str]) -> str:
    """Returns 32 hexadecimal digits of all docnos and texts, in order."""
    digest = blake2b(digest_size=16)
    for pair in texts.items():
        digest.update(json.dumps(pair).encode())
    return digest.hexdigest()


def _add(texts: dict[str, str], place: object, record: Any) -> None:
    if not isinstance(record, Mapping):
        raise CorpusError(f"{place} is a {type(record).__name__}: a record with a docno and a text is expected")
    docno = next((record[name] for name in _DOCNO_NAMES if name in record), None)
    if isinstance(docno, int) and not isinstance(docno, bool):
        docno = str(docno)
    if not isinstance(docno, str) or not docno.strip() or _NOT_IN_DOCNOS.search(docno):
        raise CorpusError(f"{place} has the docno {docno!r}: it must be a string without control characters")
    if docno in texts:
        raise CorpusError(f"{place}: docno {docno!r} is there already: give one of the two another docno, or drop it")
    text, title = record.get("text"), record.get("title")
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{place}: the text of {docno!r} is blank or missing: fill it in, or drop the record")
    if isinstance(title, str) and title.strip():
        text = f"{' '.join(title.split())}\n{text}"  # a line of its own: what the theorem is called
    if HALF_A_PAIR.search(text):
        raise CorpusError(f"{place}: the text of {docno!r} holds half of a surrogate pair: repair its JSON escapes")
    texts[docno] = text
