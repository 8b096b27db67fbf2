"""nDCG@10 while training: by ir_measures, over rankings without a query's excluded documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import torch
from sentence_transformers.base.evaluation import BaseEvaluator

from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from training.data import DataError, Documents
from training.model import TextModel
from training.recipe import Recipe

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
        was_training = text_model.training
        text_model.eval()  # no dropout
        try:
            with torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32):
                run = self._run(text_model)
        finally:
            text_model.train(was_training)
        return measure(run, self.qrels)

    def _run(self, text_model: TextModel) -> Run:
        settings: dict[str, Any] = {"loaded": text_model.loaded} | self.encoder_settings
        if text_model.checkpoint.kind == "retriever":
            encoder = Encoder(text_model.checkpoint, **settings)
            return retrieve(encoder, self.documents, self.queries, excluded=self.excluded)
        if self.candidates is None:
            raise ValueError("a reranker is evaluated on a first stage's run: give evaluation.candidates")
        reranker = Reranker(text_model.checkpoint, **settings)
        excluded = self.excluded or {}
        candidates = {
            qid: {docno: score for docno, score in ranking.items() if docno not in excluded.get(qid, ())}
            for qid, ranking in self.candidates.items()
            if qid in self.queries
        }
        return rerank(reranker, candidates, self.documents, self.queries)


def evaluator_for(recipe: Recipe, cache: Path) -> RankingEvaluator | None:
    """Reads what a recipe evaluates on; None if it evaluates on nothing.

    Raises:
        DataError: If a file is broken, or names queries or documents that the others do not hold.
    """
    evaluation = recipe.evaluation
    if evaluation is None:
        return None
    documents = Documents.from_files([Path(p) for p in evaluation.documents], cache)
    queries = read_queries(Path(evaluation.queries))
    qrels: dict[str, dict[str, int]] = {}
    for judgement in ir_measures.read_trec_qrels(evaluation.qrels):
        qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    unknown = sorted(qrels.keys() - queries.keys())
    if unknown:
        raise DataError(
            f"{evaluation.qrels} judges {len(unknown)} queries that {evaluation.queries} does not hold, such as "
            f"{unknown[0]!r}: each would count as nDCG 0; give the queries or remove their judgements"
        )
    candidates: Run | None = None
    if evaluation.candidates is not None:
        candidates = {}
        for scored in ir_measures.read_trec_run(evaluation.candidates):
            if scored.doc_id not in documents:
                raise DataError(
                    f"{evaluation.candidates} ranks {scored.doc_id!r}, which {documents.source} does not hold: give "
                    "the documents the run was made on"
                )
            candidates.setdefault(scored.query_id, {})[scored.doc_id] = scored.score
    limits: dict[str, Any] = {"max_tokens": recipe.max_pair_tokens}
    if recipe.kind == "retriever":
        limits = {"max_query_tokens": recipe.max_query_tokens, "max_document_tokens": recipe.max_document_tokens}
    return RankingEvaluator(
        {docno: documents.text(docno) for docno in documents.docnos()},
        queries,
        qrels,
        excluded={qid: [qid] for qid in queries} if evaluation.exclude_self else None,
        candidates=candidates,
        dtype=recipe.precision,
        **limits,
    )


def read_queries(path: Path) -> dict[str, str]:
    """Reads queries: JSONL with ``qid`` and ``query``, or lines of qid, tab, text.

    Raises:
        DataError: If a line has neither shape, or a qid occurs twice.
    """
    queries: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if path.suffix == ".jsonl":
                    record = json.loads(line)
                    qid, query = str(record["qid"]), str(record["query"])
                else:
                    qid, query = line.rstrip("\n").split("\t", 1)
            except (ValueError, KeyError) as error:
                raise DataError(
                    f"{path}:{number}: not a query ({error}): JSONL with qid and query, or qid<tab>text"
                ) from error
            if qid in queries:
                raise DataError(f"{path}:{number}: qid {qid!r} occurs twice: keep one")
            queries[qid] = query
    return queries
