"""Rankings on disk: read and checked, reranked as a second stage, or replayed as if a model had made them.

A ranking is a file of mteb (``<task>_predictions.json``) or a TREC run (``<task>.trec``). Whatever made it (a hybrid, a
language model's ratings) is then measured like a model.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb.abstasks import AbsTaskRetrieval
from mteb.models.model_meta import ModelMeta

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import CorpusDatasetType, EncodeKwargs, QueryDatasetType, RetrievalOutputType

Ranking = dict[str, dict[str, float]]
"""Scores of each query's documents, by query id and document id."""

_MAKER = "mteb_model_meta"


class Rankings:
    """The rankings of one task.

    Args:
        path: File with them; see the module's docstring.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is half-written, or a line of it is broken.

    Attributes:
        path: The file.
        maker: What mteb wrote of the model that made them; empty for a TREC run.
        name: Name of that model, or else of the file's folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there are no rankings at {self.path}: run a retriever on the task first")
        self.maker: dict[str, Any] = {}
        if self.path.suffix == ".json":
            self._by_subset, self.maker = _read_json(self.path)
        else:
            self._by_subset = _read_trec(self.path)
        self.name = str(self.maker.get("model_name") or self.path.resolve().parent.name)

    @classmethod
    def find(cls, folder: str | Path, task: str) -> Rankings:
        """Reads a task's rankings from a folder.

        Raises:
            FileNotFoundError: The folder has none.
        """
        paths = [Path(folder) / f"{task}{end}" for end in ("_predictions.json", ".trec")]
        return cls(next((path for path in paths if path.is_file()), paths[0]))

    def of(self, subset: str, split: str) -> Ranking:
        """Returns the ranking of a split.

        Raises:
            ValueError: There is none.
        """
        found = self._by_subset.get(subset, {}).get(split) or self._by_subset.get("", {}).get("")
        if found is None:
            known = [f"{s}/{p}" for s, splits in self._by_subset.items() for p in splits]
            raise ValueError(f"{self.path} has no ranking for {subset}/{split}; it has {', '.join(known) or 'none'}")
        return found


def folder_digest(folder: Path) -> str:
    """Returns a digest of all rankings in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*_predictions.json")) + sorted(folder.glob("*.trec")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def as_reranking(task: AbsTaskRetrieval, rankings: Rankings, top_k: int) -> AbsTaskRetrieval:
    """Makes a task one of reranking the first ``top_k`` documents of each query.

    Documents that the task keeps from a query are dropped first, and the next ones take their place. mteb's own
    conversion fails on tasks that hold their data in its older layout, as BRIGHT's do; here they are converted before.

    Args:
        task: A retrieval task; it is changed, and of the type Reranking from then on.
        rankings: Of its first stage.
        top_k: Documents of each query.

    Returns:
        The task.

    Raises:
        ValueError: A query has no ranking, or a ranking names a document that the corpus lacks.
    """
    if not task.data_loaded:
        task.load_data()
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    first: dict[str, Any] = {_MAKER: rankings.maker}
    for subset, splits in task.dataset.items():
        for split, data in splits.items():
            corpus = set(data["corpus"]["id"])
            ranking = rankings.of(subset, split)
            first.setdefault(subset, {})[split] = {
                qid: _best(ranking, qid, corpus, data["top_ranked"], top_k, rankings.path)
                for qid in data["queries"]["id"]
            }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / task.prediction_file_name
        path.write_text(json.dumps(first), encoding="utf-8")
        task.convert_to_reranking(path, top_k=top_k)
    task.metadata = task.metadata.model_copy(update={"type": "Reranking"})
    return task


class RankingFiles:
    """Rankings on disk as a model: mteb's ``SearchProtocol`` over what another program ranked.

    Args:
        folder: One file for each task; see the module's docstring.
        name: What the results are to be called, such as ``local/hybrid``.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The name has no slash, which mteb asks for.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is no folder of rankings")
        if "/" not in name:
            raise ValueError(f"a model of mteb has a slash in its name: call it local/{name}")
        self.corpus: frozenset[str] = frozenset()
        self.mteb_model_meta = ModelMeta(
            loader=None,
            name=name,
            revision=f"rankings-{folder_digest(self.folder)}",
            release_date=None,
            languages=["eng-Latn"],
            n_parameters=None,
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=None,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=[],
            similarity_fn_name=None,
            use_instructions=None,
            training_datasets=None,
            model_type=["hybrid"],
        )

    def index(
        self,
        corpus: CorpusDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: EncodeKwargs,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Remembers which documents there are."""
        self.corpus = frozenset(corpus["id"])

    def search(
        self,
        queries: QueryDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: EncodeKwargs,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> RetrievalOutputType:
        """Returns the rankings of the task's file, without the documents that a query must not get.

        Raises:
            FileNotFoundError: The folder has no file of the task.
            ValueError: The file is half-written, lacks a query, or names an unknown document.
        """
        rankings = Rankings.find(self.folder, task_metadata.name)
        ranking = rankings.of(hf_subset, hf_split)
        return {qid: _best(ranking, qid, self.corpus, top_ranked, top_k, rankings.path) for qid in queries["id"]}


def _best(
    ranking: Ranking,
    qid: str,
    corpus: set[str] | frozenset[str],
    top_ranked: Mapping[str, Sequence[str]] | None,
    top_k: int,
    path: Path,
) -> dict[str, float]:
    """The best allowed documents of a query."""
    if qid not in ranking:
        raise ValueError(f"{path} has no ranking for the query {qid!r}: it belongs to another version of the task")
    scores = ranking[qid]
    if unknown := scores.keys() - corpus:
        raise ValueError(f"{path} ranks the document {min(unknown)!r} for the query {qid!r}, which the corpus lacks")
    allowed = scores.keys() if top_ranked is None else set(top_ranked.get(qid, ()))
    kept = [docno for docno in sorted(scores, key=lambda docno: -scores[docno]) if docno in allowed]
    return {docno: scores[docno] for docno in kept[:top_k]}


def _read_json(path: Path) -> tuple[dict[str, dict[str, Ranking]], dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        maker = dict(content.pop(_MAKER))
        for splits in content.values():
            for split, ranking in splits.items():
                for qid, scores in ranking.items():
                    if not all(math.isfinite(score) for score in scores.values()):
                        raise ValueError(f"{path}: a score of query {qid!r} in {split} is not a finite number")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is half-written or no JSON ({error}): remove it and run the retriever on this task again"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no predictions file of mteb ({type(error).__name__}: {error}): it needs {_MAKER} and, for each "
            "subset and split, scores by query and document"
        ) from error
    return content, maker


def _read_trec(path: Path) -> dict[str, dict[str, Ranking]]:
    """A TREC run, for whatever subset and split is asked for."""
    ranking: Ranking = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        try:
            qid, _, docno, _, score, _ = fields
            value = float(score)
        except ValueError as error:
            raise ValueError(
                f"{path}:{number} is no line of a TREC run (qid Q0 docno rank score name): the file may be half-written"
            ) from error
        if not math.isfinite(value):
            raise ValueError(f"{path}:{number}: the score {score} is not a finite number")
        ranking.setdefault(qid, {})[docno] = value
    return {"": {"": ranking}}
