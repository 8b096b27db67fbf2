"""When two texts ask the same: equal words, or nearly the same runs of words.

MinHash proposes, the sets decide: every reported similarity is the exact Jaccard similarity of the two texts' shingles.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE_WORDS = 3

_PERMUTATIONS = 128
_FIGURE = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL | re.IGNORECASE)
# Contests print "(A) … (B) …" behind a question; collections of free-answer problems leave them out.
_CHOICES = re.compile(r"\(\s*A\s*\).*\(\s*B\s*\).*\Z", re.DOTALL)
_LAYOUT = re.compile(r"\\(?:q?quad|text\w*|math(?:rm|bf|it|sf|tt)|left|right|[dt]?displaystyle|[,;:! ~])(?![a-z])")
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def words(text: str) -> list[str]:
    """Returns what a text says, without case, punctuation, figures, LaTeX layout and multiple-choice answers."""
    text = _FIGURE.sub(" ", unicodedata.normalize("NFKC", text))
    text = _LAYOUT.sub(" ", text)
    question = _CHOICES.sub(" ", text)
    return _WORD.findall((question if question.strip() else text).casefold())


def shingles(text: str) -> frozenset[str]:
    """Returns the runs of three words of a text; a shorter text is one run, a text without a word has none."""
    found = words(text)
    last = max(1, len(found) - SHINGLE_WORDS + 1)
    return frozenset(" ".join(found[start : start + SHINGLE_WORDS]) for start in range(last)) - {""}


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Returns the share of shingles that two sets have in common, 0 to 1."""
    return len(one & other) / len(one | other) if one or other else 0.0


class NearDuplicates:
    """Texts by key, among which the one most like another is found. About 6 kB of memory a text.

    Args:
        threshold: The Jaccard similarity of shingles from which on texts count as nearly the same, above 0, at most 1.
    """

    def __init__(self, threshold: float):
        from datasketch import MinHash, MinHashLSH

        if not 0 < threshold <= 1:
            raise ValueError(f"a similarity threshold must lie above 0 and at most at 1, not at {threshold!r}")
        self.threshold = threshold
        # Candidates are checked one by one, so a missed pair costs more than a false candidate. The library refuses 1.
        self._index = MinHashLSH(threshold=min(threshold, 0.9), num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
        self._empty = MinHash(num_perm=_PERMUTATIONS)  # its permutations cost more than a text's signature
        self._texts: dict[str, str] = {}

    def add(self, key: str, text: str, group: str = "") -> None:
        """Adds a text. Only texts of one group are compared with each other.

        Raises:
            ValueError: If the key is there already.
        """
        runs = shingles(text)
        if runs:
            self._index.insert(key, self._signature(runs, group))
        self._texts[key] = text

    def find(self, text: str, group: str = "") -> tuple[str, float] | None:
        """Returns key and similarity of the most similar text of the group, or None below the threshold."""
        runs = shingles(text)
        if not runs:
            return None
        candidates = sorted(self._index.query(self._signature(runs, group)))
        similarities = [(key, jaccard(runs, shingles(self._texts[key]))) for key in candidates]
        best = max(similarities, key=lambda pair: pair[1], default=None)
        return best if best is not None and best[1] >= self.threshold else None

    def _signature(self, runs: frozenset[str], group: str) -> MinHash:
        signature = self._empty.copy()
        signature.update_batch([f"{group}\0{run}".encode("utf-8", "surrogatepass") for run in runs])
        return signature
