"""What radar-mini is judged by: held-out theorem and problem retrieval, and two guards against specialising.

``stacks``: statements of held-out chapters, against all of the Stacks project. ``problems``: problems of held-out
entries, against PlanetMath. ``vaswani``: scientific abstracts, for harm to lexical search. A further set is a folder
that holds ``corpus.jsonl.gz`` (docno, text), ``topics.tsv`` and ``qrels.txt``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ir_measures

from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from training.data import Documents
from training.data.records import read_records
from training.evaluation import Run, measure, read_queries, rerank, retrieve
from training.mini.data import read_dev
from training.negatives import BM25Miner

MEASURES = ("nDCG@10", "R@100")
DEPTH = 100
_QUERY_CHARACTERS = 1000


@dataclass(frozen=True)
class HeldOut:
    """A test collection in memory.

    Attributes:
        name: What it is called in tables.
        documents: Texts by docno.
        queries: Texts by qid.
        qrels: Judgements by qid and docno.
    """

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]

    def bm25(self) -> Run:
        """BM25's run."""
        ranked = BM25Miner(Documents.from_texts(self.documents)).rank(list(self.queries.values()), DEPTH + 1)
        return {
            qid: dict([hit for hit in ranking if hit[0] != qid][:DEPTH])
            for qid, ranking in zip(self.queries, ranked, strict=True)
        }

    def dense(self, encoder: Encoder) -> Run:
        """An encoder's run; a query that is a document leaves its own ranking."""
        own = {qid: [qid] for qid in self.queries}
        return retrieve(encoder, self.documents, self.queries, excluded=own, depth=DEPTH)

    def reranked(self, reranker: Reranker, run: Run) -> Run:
        """A run in a reranker's order, which reads the beginning of a long query, so that documents have room."""
        queries = {qid: query[:_QUERY_CHARACTERS] for qid, query in self.queries.items()}
        return rerank(reranker, run, self.documents, queries)

    def sample(self, queries: int, documents: int) -> HeldOut:
        """A smaller collection, always the same: some of the queries, their relevant documents, and some others."""
        rng = random.Random(0)
        chosen = rng.sample(sorted(self.queries), min(queries, len(self.queries)))
        others = rng.sample(sorted(self.documents), min(documents, len(self.documents)))
        kept = {docno for qid in chosen for docno in self.qrels[qid]} | {*others}
        return HeldOut(
            self.name,
            {docno: text for docno, text in self.documents.items() if docno in kept},
            {qid: self.queries[qid] for qid in chosen},
            {qid: self.qrels[qid] for qid in chosen},
        )

    def measured(self, run: Run) -> dict[str, float]:
        """The means of :data:`MEASURES`."""
        return measure(run, self.qrels, MEASURES)


def held_out_sets(data: Path, folders: tuple[Path, ...] = ()) -> list[HeldOut]:
    """Reads what :func:`training.mini.data.build` held out, and further collections by their folders."""
    return [HeldOut(name, *read_dev(data, name)) for name in ("stacks", "problems")] + [*map(_read_folder, folders)]


def _read_folder(folder: Path) -> HeldOut:
    documents = {record["docno"]: record["text"] for _, record in read_records(folder / "corpus.jsonl.gz")}
    qrels: dict[str, dict[str, int]] = {}
    for judgement in ir_measures.read_trec_qrels(str(folder / "qrels.txt")):
        qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    queries = {qid: text for qid, text in read_queries(folder / "topics.tsv").items() if qid in qrels}
    return HeldOut(folder.name, {docno: text for docno, text in documents.items() if text.strip()}, queries, qrels)
