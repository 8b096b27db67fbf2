"""nDCG@10 while training: by ir_measures, over rankings without a query's excluded documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator

from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from training.model import TextModel

Run = dict[str, dict[str, float]]


def retrieve(
    encoder: Encoder,
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    *,
    excluded: Mapping[str, Sequence[str]] | None = None,
    depth: int = 100,
) -> Run:
    """Ranks all documents for every query, exactly.

    Args:
        encoder: Encodes both sides.
        documents: Texts by docno.
        queries: Texts by qid.
        excluded: Per qid, docnos that leave its ranking.
        depth: How many documents a ranking keeps.

    Returns:
        Scores by qid and docno.
    """
    docnos = np.array(list(documents))
    places = {docno: place for place, docno in enumerate(docnos)}
    vectors = torch.from_numpy(encoder.encode_documents(list(documents.values())))
    run: Run = {}
    for qid, vector in zip(queries, torch.from_numpy(encoder.encode_queries(list(queries.values()))), strict=True):
        scores = vectors @ vector
        for docno in (excluded or {}).get(qid, ()):
            if docno in places:
                scores[places[docno]] = -torch.inf
        top = scores.topk(min(depth, len(docnos)))
        found = zip(docnos[top.indices.numpy()], top.values.tolist(), strict=True)
        run[qid] = {str(docno): score for docno, score in found if score > -np.inf}
    return run


def rerank(reranker: Reranker, candidates: Run, documents: Mapping[str, str], queries: Mapping[str, str]) -> Run:
    """Scores every candidate again.

    Args:
        reranker: Scores pairs.
        candidates: A first stage's run; its scores are not used.
        documents: Texts by docno.
        queries: Texts by qid.

    Returns:
        Scores by qid and docno.
    """
    pairs = [(qid, docno) for qid, ranking in candidates.items() for docno in ranking]
    scores = reranker.score([(queries[qid], documents[docno]) for qid, docno in pairs])
    run: Run = {qid: {} for qid in candidates}
    for (qid, docno), score in zip(pairs, scores.tolist(), strict=True):
        run[qid][docno] = score
    return run


def measure(
    run: Run, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str] = ("nDCG@10",)
) -> dict[str, float]:
    """Returns the mean of each measure over the queries of the judgements."""
    import ir_measures

    parsed = [ir_measures.parse_measure(name) for name in measures]
    return {str(m): float(v) for m, v in ir_measures.calc_aggregate(parsed, dict(qrels), run).items()}


class RankingEvaluator(BaseEvaluator):
    """nDCG@10 of a model in training on held-out queries.

    Args:
        documents: Texts by docno.
        queries: Texts by qid; only judged ones are used.
        qrels: Judgements by qid and docno.
        excluded: Per qid, docnos that leave its ranking.
        candidates: For a reranker, the run it orders again.
        dtype: Precision of the computation, ``"float32"`` or ``"bfloat16"``.
        encoder_settings: Of :class:`torch_radar.encoder.Encoder` or :class:`torch_radar.reranker.Reranker`.
    """

    def __init__(
        self,
        documents: Mapping[str, str],
        queries: Mapping[str, str],
        qrels: Mapping[str, Mapping[str, int]],
        *,
        excluded: Mapping[str, Sequence[str]] | None = None,
        candidates: Run | None = None,
        dtype: str = "float32",
        **encoder_settings: Any,
    ) -> None:
        super().__init__()
        self.documents = documents
        self.queries = {qid: text for qid, text in queries.items() if qid in qrels}
        self.qrels = qrels
        self.excluded = excluded
        self.candidates = candidates
        self.dtype = getattr(torch, dtype)
        self.encoder_settings = encoder_settings
        self.primary_metric = "nDCG@10"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Returns ``{"nDCG@10": …}`` of the model in its present state."""
        text_model = model[0]
        assert isinstance(text_model, TextModel)
        device = text_model.loaded.device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            run = self._run(text_model)
        return measure(run, self.qrels)

    def _run(self, text_model: TextModel) -> Run:
        settings: dict[str, Any] = {"loaded": text_model.loaded} | self.encoder_settings
        if text_model.checkpoint.kind == "retriever":
            encoder = Encoder(text_model.checkpoint, **settings)
            return retrieve(encoder, self.documents, self.queries, excluded=self.excluded)
        if self.candidates is None:
            raise ValueError("a reranker is evaluated on a first stage's run: give evaluation.candidates")
        reranker = Reranker(text_model.checkpoint, **settings)
        candidates = {qid: ranking for qid, ranking in self.candidates.items() if qid in self.queries}
        return rerank(reranker, candidates, self.documents, self.queries)
