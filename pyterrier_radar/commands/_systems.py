"""The systems that ``radar evaluate`` and ``radar demo`` compare, each run at most once."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyterrier as pt
from tqdm import tqdm

from pyterrier_radar import RadarBiEncoder, RadarIndex, RadarReranker
from pyterrier_radar._exclude import ExcludeDocuments
from pyterrier_radar._fuse import fuse_ratings
from pyterrier_radar._interpolate import interpolate
from pyterrier_radar.commands._bm25 import Engine, describe_bm25, open_bm25
from pyterrier_radar.commands._collection import Collection, Task, cache_folder, digest
from pyterrier_radar.commands._dense import open_dense_index
from pyterrier_radar.commands._runs import Ranking, RunFolder
from radar_bm25.index import STEMMER
from radar_cli import note

if TYPE_CHECKING:
    from pyterrier_radar._rating import RatingReranker

SYSTEMS = ("bm25", "dense", "hybrid", "scored", "reranked", "rated")
RATING = "rating"
"""The stage before ``rated``: the hybrid's best documents by their rating alone."""


@dataclass(frozen=True)
class Settings:
    """What the systems are made of.

    Attributes:
        alpha: weight of the dense ranking in the hybrid.
        depth: how many of BM25's documents are scored or reranked.
        num_results: how many documents a ranking keeps.
        index: folder of the dense index; ``None`` keeps it in the cache.
        bm25: whose BM25.
        rating_depth: how many of the hybrid's documents a language model rates.
        rating_weight: weight of the rating beside the hybrid's score.
    """

    alpha: float = 0.8
    depth: int = 100
    num_results: int = 1000
    index: Path | None = None
    bm25: Engine = "pisa"
    rating_depth: int = 100
    rating_weight: float = 0.5

    def with_alpha(self, alpha: float) -> "Settings":
        """Returns the settings with another weight of the dense ranking."""
        return replace(self, alpha=alpha)


def parse_systems(names: str, *, reranker: str | None, llm: str | None = None) -> list[str]:
    """Turns ``"bm25,dense"`` into names of systems.

    Raises:
        ValueError: for an unknown name, ``reranked`` without a reranker, or ``rated`` without a language model.
    """
    systems = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown or not systems:
        named = ", ".join(map(repr, unknown)) or repr(names)
        raise ValueError(f"unknown system {named}: choose from {', '.join(SYSTEMS)}")
    if "reranked" not in systems and reranker is not None:
        raise ValueError("--reranker is for the system reranked: add it to --systems")
    if "reranked" in systems and reranker is None:
        raise ValueError("the system reranked needs a reranker: name one (--reranker Raderspace/… or a folder)")
    if "rated" in systems and llm is None:
        raise ValueError(
            "the system rated needs a language model: name one as its server does (--llm-model, --llm-url)"
        )
    return systems


class Systems:
    """Runs systems over one task. Stages are shared: the hybrid takes the rankings that are already there.

    A system's time is that of all its stages, models loaded and indexes built.
    """

    def __init__(
        self,
        collection: Collection,
        task: Task,
        encoder: RadarBiEncoder,
        reranker: RadarReranker | None,
        settings: Settings,
        runs: RunFolder,
        systems: Sequence[str] = SYSTEMS,
        rater: "RatingReranker | None" = None,
    ):
        self.collection, self.task, self.encoder, self.reranker = collection, task, encoder, reranker
        self.settings, self.runs, self.rater = settings, runs, rater
        # an index of all documents serves scoring too; without one, only what is scored gets encoded
        self._scores_from_index = bool({"dense", "hybrid", "rated"} & set(systems))
        self._finished: dict[str, Ranking] = {}
        self._run: dict[str, Callable[[], Ranking]] = {
            "bm25": self._bm25,
            "dense": self._dense,
            "hybrid": self._hybrid,
            "scored": self._scored,
            "reranked": self._reranked,
            RATING: self._rating,
            "rated": self._rated,
        }

    def ranking(self, system: str) -> Ranking:
        """Returns what a system ranks for all queries, from an earlier run where nothing has changed since."""
        if system not in self._finished:
            configuration = self._configuration(system)
            ranking = self.runs.find(system, configuration)
            if ranking is None:
                note(f"running {system}")
                ranking = self._run[system]()
                self.runs.keep(system, configuration, ranking)
            else:
                note(f"reusing the finished run of {system}")
            self._finished[system] = ranking
        return self._finished[system]

    def _bm25(self) -> Ranking:
        engine = self.settings.bm25
        folder = cache_folder(self.collection, "bm25", STEMMER if engine == "pisa" else engine)
        most_excluded = max(map(len, self.task.excluded.values()), default=0)
        with contextlib.closing(self._documents()) as documents:
            retriever = open_bm25(engine, folder, documents, self.settings.num_results + most_excluded)
        return self._timed(retriever >> ExcludeDocuments(self.task.excluded), self.task.topics)

    def _dense(self) -> Ranking:
        exclude = ExcludeDocuments(self.task.excluded)
        retriever = self._index.retriever(self.settings.num_results, exclude=exclude)
        return self._timed(retriever, self.task.topics)

    def _hybrid(self) -> Ranking:
        dense = self.ranking("dense")
        if self.settings.alpha == 1:
            return Ranking(dense.frame, dense.seconds)
        sparse = self.ranking("bm25")
        start = time.perf_counter()
        frame = self._cut(interpolate(dense.frame, sparse.frame, alpha=self.settings.alpha))
        return Ranking(frame, dense.seconds + sparse.seconds + time.perf_counter() - start)

    def _scored(self) -> Ranking:
        if self._scores_from_index:
            return self._rerank_bm25(self._index.retriever(self.settings.depth), self.task.topics)
        return self._rerank_bm25(self.encoder.text_scorer(), self.task.topics, needs_texts=True)

    def _reranked(self) -> Ranking:
        return self._rerank_bm25(self.reranker, self.task.questions, needs_texts=True)

    def _rating(self) -> Ranking:
        from pyterrier_radar._llm import spent

        retrieval = self.ranking("hybrid")
        best = retrieval.frame[retrieval.frame["rank"] < self.settings.rating_depth]
        candidates = self.collection.with_texts(best.merge(self.task.questions, on="qid"))
        assert self.rater is not None
        start = time.perf_counter()
        rated = self.rater(candidates)
        seconds = time.perf_counter() - start
        if len(rated) and not (rated["rating_status"] == "rated").any():
            raise ValueError(f"{self.rater.model} rated none of {len(rated)} pairs: see the warnings above")
        facts = {status: int((rated["rating_status"] == status).sum()) for status in ("rated", "unparsable", "missing")}
        facts |= spent(self.rater.usage)
        note(f"{self.rater.model}: " + ", ".join(f"{count} {what}" for what, count in facts.items()))
        return Ranking(self._cut(rated), retrieval.seconds + seconds, facts=facts)

    def _rated(self) -> Ranking:
        retrieval, rating = self.ranking("hybrid"), self.ranking(RATING)
        start = time.perf_counter()
        settings = self.settings
        fused = fuse_ratings(retrieval.frame, rating.frame, weight=settings.rating_weight, depth=settings.rating_depth)
        return Ranking(self._cut(fused), rating.seconds + time.perf_counter() - start, facts=rating.facts)

    def _rerank_bm25(self, scorer: pt.Transformer, queries: pd.DataFrame, *, needs_texts: bool = False) -> Ranking:
        sparse = self.ranking("bm25")
        candidates = sparse.frame[sparse.frame["rank"] < self.settings.depth].merge(queries, on="qid")
        if needs_texts:
            candidates = self.collection.with_texts(candidates)
        ranking = self._timed(scorer, candidates)
        return Ranking(ranking.frame, sparse.seconds + ranking.seconds)

    def _timed(self, pipeline: pt.Transformer, frame: pd.DataFrame) -> Ranking:
        # weights are loaded and caches filled outside the measured time
        self.encoder.encoder.progress = False
        pipeline(frame.head(1))
        self.encoder.encoder.progress = True
        start = time.perf_counter()
        results = pipeline(frame)
        return Ranking(self._cut(results), time.perf_counter() - start)

    def _cut(self, results: pd.DataFrame) -> pd.DataFrame:
        kept = results[results["rank"] < self.settings.num_results].sort_values(["qid", "rank"], kind="stable")
        return kept[["qid", "docno", "score", "rank"]].astype({"score": "float64"}).reset_index(drop=True)

    def _documents(self) -> Generator[dict[str, str], None, None]:
        """The documents, with a progress bar once they are drawn."""
        total = self.collection.count()
        yield from tqdm(self.collection.documents(), desc="indexing for BM25", unit="doc", total=total)

    @cached_property
    def _index(self) -> RadarIndex:
        return open_dense_index(self.collection, self.encoder, self.settings.index)

    @cached_property
    def _shared_configuration(self) -> dict[str, Any]:
        return {
            "collection": self.collection.name,
            "documents": self.collection.fingerprint(),
            "queries": digest(list(self.task.topics.itertuples(index=False, name=None))),
            "excluded": digest(sorted(self.task.excluded.items())),
            "num_results": self.settings.num_results,
        }

    def _configuration(self, system: str) -> dict[str, Any]:
        """Everything that changes a system's ranking."""
        configuration = dict(self._shared_configuration)
        retrieves = system in ("hybrid", RATING, "rated")
        if system in ("reranked", RATING, "rated"):
            configuration["questions"] = digest(list(self.task.questions.itertuples(index=False, name=None)))
        if system != "dense" and not (retrieves and self.settings.alpha == 1):
            configuration["bm25"] = describe_bm25(self.settings.bm25)
        if retrieves or system in ("dense", "scored"):
            encoder = self.encoder.encoder
            configuration["encoder"] = encoder.settings() | encoder.document_settings()
        if retrieves or system == "dense":
            configuration["index"] = str(self.settings.index)
        if retrieves:
            configuration["alpha"] = self.settings.alpha
        if system in ("scored", "reranked"):
            configuration["depth"] = self.settings.depth
        if system == "scored":
            configuration["vectors"] = "from the index" if self._scores_from_index else "from the texts"
        if system == "reranked" and self.reranker is not None:
            model = self.reranker.reranker
            configuration["reranker"] = model.settings() | {"weights": model.model.weights_digest()}
        if system in (RATING, "rated") and self.rater is not None:
            from pyterrier_radar._llm import decides_answers

            configuration["rater"] = decides_answers(self.rater)
            configuration["rating_depth"] = self.settings.rating_depth
        if system == "rated":
            configuration["rating_weight"] = self.settings.rating_weight
        return configuration
