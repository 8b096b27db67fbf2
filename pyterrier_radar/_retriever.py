"""Exact dense retrieval from a :class:`RadarIndex`."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._exclude import ExcludeDocuments
from torch_radar.vectors import VectorStore

if TYPE_CHECKING:
    from pyterrier_radar._index import RadarIndex

_SCORED_ROWS = 4096


class RadarRetriever(EqualBySettings, pt.Transformer):
    """Ranks the documents of an index for each query; made by :meth:`RadarIndex.retriever`.

    A frame of queries (``qid`` with ``query`` or ``query_vec``) gets the ``num_results`` best documents of the
    index. A result frame gets its own candidates scored from the stored vectors, and the best ``num_results`` of
    them are kept. ``query_vec`` is used where the frame has it; otherwise the model of the index encodes ``query``.

    ``% k`` becomes a search for k documents.
    """

    def __init__(
        self,
        index: "RadarIndex",
        num_results: int = 1000,
        *,
        exclude: ExcludeDocuments | pd.DataFrame | Mapping[str, Iterable[str]] | Literal[True] | None = None,
        batch_size: int = 256,
        device: str | None = None,
    ):
        """Describes a search.

        Args:
            index: what to search.
            num_results: documents a query gets at most.
            exclude: documents that a query must not get: what :class:`ExcludeDocuments` takes or one itself, or True
                for the document whose docno is the qid. They are left out inside the search, so that still
                ``num_results`` documents come back.
            batch_size: queries searched at once; it changes speed and memory, not results.
            device: where to search (``"cuda"``, ``"cpu"``); where None, on the model's GPU if it runs on one, else
                on the CPU.

        Raises:
            ValueError: ``num_results`` or ``batch_size`` is below 1.
        """
        if num_results < 1 or batch_size < 1:
            raise ValueError(f"num_results and batch_size must be 1 or more, not {num_results} and {batch_size}")
        self._index = index
        self.num_results = num_results
        self.exclude = _as_exclusion(exclude)
        self.batch_size = batch_size
        self.device = device

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Retrieves or scores, by the columns of the frame.

        Returns:
            The columns of the input with ``docno``, ``score`` (dot product) and ``rank``; sorted by query in the
            order of the input, and by rank.

        Raises:
            ValueError: A query is blank or missing, a candidate isn't in the index (the message names them), or the
                index isn't complete or was made by another model.
        """
        with pt.validate.any(inp, context=self) as v:
            for column in ("query", "query_vec"):
                v.query_frame([column], mode="retrieve")
                v.result_frame([column], mode="score")
        if not len(inp):
            documents = inp if "docno" in inp.columns else inp.assign(docno=pd.Series(dtype="str"))
            return pt.model.add_ranks(documents.assign(score=pd.Series(dtype="float64")))
        store = self._index.complete_store()
        queries = self._query_vectors(inp, store)
        return self._retrieve(inp, queries, store) if v.mode == "retrieve" else self._score(inp, queries, store)

    def fuse_rank_cutoff(self, k: int) -> "RadarRetriever | None":
        """The same search for k documents, if that is fewer."""
        if 1 <= k < self.num_results:
            return pt.inspect.transformer_apply_attributes(self, num_results=k)
        return None

    def subtransformers(self) -> dict[str, pt.Transformer]:
        """None: the exclusions are part of the search."""
        return {}

    def __repr__(self) -> str:
        return f"{self._index!r}.retriever({self.num_results})"

    def _settings_key(self) -> Hashable:
        return (self._index, self.num_results, self.exclude, self.device)

    def _query_vectors(self, inp: pd.DataFrame, store: VectorStore) -> list[np.ndarray]:
        """One (dimension,) vector a row."""
        if "query_vec" in inp.columns:
            return _frames.vectors(inp, "query_vec", "qid", store.dimension)
        encoder = self._index.query_encoder
        if encoder is None:
            raise ValueError(
                f"{self._index!r} was made from given vectors, so its model is unknown: put the query encoder in "
                "front (encoder >> index.retriever()), or name the model: RadarIndex(path, model)"
            )
        once, rows = _frames.distinct(_frames.queries(inp))
        return list(encoder.encode_queries(once)[rows])

    def _retrieve(self, inp: pd.DataFrame, queries: list[np.ndarray], store: VectorStore) -> pd.DataFrame:
        qids = inp["qid"].astype(str).tolist()
        results = []
        starts = range(0, len(inp), self.batch_size)
        for start in pt.tqdm(starts, desc="searching", unit="batch", disable=not self._index.verbose):
            batch = slice(start, start + self.batch_size)
            hits = store.search(
                np.stack(queries[batch]),
                self.num_results,
                exclude=[sorted(self.exclude.docnos(qid)) or None for qid in qids[batch]],
                device=self.device or self._index.search_device,
            )
            query, rank = np.nonzero(hits.rows >= 0)
            found = hits.rows[query, rank]
            results.append(
                inp.iloc[start + query].assign(
                    docno=store.docnos(found), score=hits.scores[query, rank].astype("float64"), rank=rank
                )
            )
        found = pd.concat(results, ignore_index=True)
        # Windows of excluded documents have docnos of their own, which the search doesn't know.
        return self.exclude(found) if self.exclude.excluded or self.exclude.self_retrieval else found

    def _score(self, inp: pd.DataFrame, queries: list[np.ndarray], store: VectorStore) -> pd.DataFrame:
        rows = store.rows(inp["docno"].tolist())
        if (rows < 0).any():
            qid, docno = inp[["qid", "docno"]].iloc[int(np.argmax(rows < 0))]
            raise ValueError(f"docno {docno!r}, a candidate of qid {qid!r}, isn't in {self._index!r}")
        scores = np.empty(len(inp))
        for start in range(0, len(inp), _SCORED_ROWS):
            part = slice(start, start + _SCORED_ROWS)
            scores[part] = np.einsum("nd,nd->n", np.stack(queries[part]), store.gather(rows[part]))
        kept = self.exclude(inp.drop(columns="rank", errors="ignore").assign(score=scores))
        order = np.lexsort((-kept["score"], pd.factorize(kept["qid"])[0]))
        ranked = pt.model.add_ranks(kept.iloc[order].reset_index(drop=True))
        return ranked[ranked["rank"] < self.num_results].reset_index(drop=True)


def _as_exclusion(
    exclude: ExcludeDocuments | pd.DataFrame | Mapping[str, Iterable[str]] | Literal[True] | None,
) -> ExcludeDocuments:
    if isinstance(exclude, ExcludeDocuments):
        return exclude
    return ExcludeDocuments(self_retrieval=True) if exclude is True else ExcludeDocuments(exclude)
