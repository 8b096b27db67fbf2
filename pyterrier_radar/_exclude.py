"""Documents that must not appear in a query's ranking: a benchmark's excluded ones, or the query itself."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._frames import document_of

EXCLUDED_LABEL = -100
"""ir_datasets marks the excluded documents of BRIGHT with this relevance label."""


class ExcludeDocuments(EqualBySettings, pt.Transformer):
    """Removes excluded documents from rankings and numbers the ranks anew.

    BRIGHT excludes documents per query: they must be gone before the ranking is cut and measured, not merely
    judged irrelevant. With a document go its windows (:class:`SlidingWindows`). Put this before any ``% k``; it
    lets no cutoff through to the stages before it.

    ::

        pipeline = retriever >> ExcludeDocuments(dataset.get_qrels()) % 1000
        pipeline = retriever >> ExcludeDocuments(self_retrieval=True)
    """

    def __init__(
        self,
        excluded: pd.DataFrame | Mapping[str, Iterable[str]] | None = None,
        *,
        self_retrieval: bool = False,
    ):
        """Says what to exclude.

        Args:
            excluded: a frame of ``qid`` and ``docno`` (with a ``label`` column, as qrels have, only the rows
                labelled -100 or lower count), or a dictionary from qid to docnos, or nothing.
            self_retrieval: whether to exclude the document whose docno is the qid, for collections whose
                queries are documents too.

        Raises:
            ValueError: The frame lacks a column, or the dictionary holds a string where docnos are expected.
        """
        self.excluded = _by_query(excluded)
        self.self_retrieval = self_retrieval

    def docnos(self, qid: str) -> frozenset[str]:
        """The documents excluded for a query."""
        docnos = self.excluded.get(qid, frozenset())
        return docnos | {qid} if self.self_retrieval else docnos

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Drops the excluded rows of a result frame; ``rank``, if there is one, is numbered anew from 0."""
        pt.validate.result_frame(inp)
        pairs = zip(inp["qid"].astype(str), inp["docno"].astype(str), strict=True)
        allowed = np.array([not self._excludes(qid, docno) for qid, docno in pairs], dtype=bool)
        kept = inp[allowed].reset_index(drop=True)
        if "rank" not in kept.columns:
            return kept
        ranks = kept.groupby("qid", sort=False)["rank"].rank(method="first").astype("int64") - 1
        return kept.assign(rank=ranks)

    def schematic(self, *, input_columns: list[str] | None = None) -> dict[str, Any]:
        """A label and the number of exclusions, in place of all of them."""
        count = f"{sum(map(len, self.excluded.values()))} documents of {len(self.excluded)} queries"
        return {"label": "Exclude", "settings": {"excluded": count, "self_retrieval": self.self_retrieval}}

    def _excludes(self, qid: str, docno: str) -> bool:
        names = {docno, document_of(docno)}
        return not names.isdisjoint(self.excluded.get(qid, ())) or (self.self_retrieval and qid in names)

    def __repr__(self) -> str:
        return f"ExcludeDocuments({len(self.excluded)} queries, self_retrieval={self.self_retrieval})"

    def _settings_key(self) -> Hashable:
        return (frozenset(self.excluded.items()), self.self_retrieval)


def _by_query(excluded: pd.DataFrame | Mapping[str, Iterable[str]] | None) -> dict[str, frozenset[str]]:
    if excluded is None:
        return {}
    if isinstance(excluded, Mapping):
        for qid, docnos in excluded.items():
            if isinstance(docnos, str):
                raise ValueError(f"qid {qid!r} excludes the string {docnos!r}: give a list of docnos")
        return {str(qid): frozenset(map(str, docnos)) for qid, docnos in excluded.items()}
    if not isinstance(excluded, pd.DataFrame):
        raise ValueError(
            f"exclusions belong to queries: give a frame or a dictionary from qid to docnos, not {excluded!r}"
        )
    frame: pd.DataFrame = excluded
    if missing := {"qid", "docno"} - set(frame.columns):
        raise ValueError(f"the frame of excluded documents has no {sorted(missing)}, only {list(frame.columns)}")
    if "label" in frame.columns:
        frame = frame[frame["label"] <= EXCLUDED_LABEL]
    groups = frame.groupby("qid", sort=False)["docno"]
    return {str(qid): frozenset(docnos.astype(str)) for qid, docnos in groups}
