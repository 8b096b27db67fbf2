"""The collection a command works on: an ir_datasets id, one of ours, or a user's files."""

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt
from pyterrier.datasets._irds import IRDSDataset

from pyterrier_radar._bright import bright_rewrite, rewritten_topics
from pyterrier_radar._exclude import EXCLUDED_LABEL
from pyterrier_radar._files import EmptyText
from pyterrier_radar.datasets import LocalDataset
from radar_cli import note
from torch_radar.checkpoints import Checkpoint
from torch_radar.instructions import instruction_for_dataset
from torch_radar.templates import PLAIN

_USUAL_QUERY_FIELDS = ("query", "text", "title")


@dataclass(frozen=True)
class Collection:
    """Documents, and where there are any, queries and judgements, whatever they come from."""

    name: str
    dataset: pt.datasets.Dataset
    text_field: str | None
    empty_text: EmptyText

    @property
    def documents_name(self) -> str:
        """The name of the documents, which several collections of queries may share."""
        if not isinstance(self.dataset, IRDSDataset):
            return self.name
        import ir_datasets

        return ir_datasets.docs_parent_id(self.dataset._irds_id)

    def documents(self) -> Iterator[dict[str, str]]:
        """Streams ``{"docno": …, "text": …}``; the text is the named field or the usual one."""
        if isinstance(self.dataset, IRDSDataset):
            return ({"docno": doc.doc_id, "text": self._text(doc)} for doc in self.dataset.irds_ref().docs_iter())
        return ({"docno": d["docno"], "text": d["text"]} for d in self.dataset.get_corpus_iter(verbose=False))

    def count(self) -> int | None:
        """The number of documents, where it is known without reading them."""
        return self.dataset.irds_ref().docs_count() if isinstance(self.dataset, IRDSDataset) else None

    def with_texts(self, results: pd.DataFrame) -> pd.DataFrame:
        """Adds the ``text`` of each row's document."""
        if not isinstance(self.dataset, IRDSDataset):
            return self.dataset.text_loader("text")(results)
        wanted = set(results["docno"])
        store = self.dataset.irds_ref().docs_store()
        texts = {doc.doc_id: self._text(doc) for doc in store.get_many_iter(wanted)}
        if absent := wanted - texts.keys():
            raise ValueError(f"{self.name} has no document {min(absent)!r} ({len(absent)} missing in all)")
        return results.assign(text=results["docno"].map(texts))

    def topics(self, variant: str | None = None) -> pd.DataFrame:
        """The queries as a frame of ``qid`` and ``query``.

        Raises:
            ValueError: if the collection has none, lacks the variant, or needs one to be named.
        """
        self._require("topics", "queries")
        if variant is not None:
            if isinstance(self.dataset, IRDSDataset) and (name := bright_rewrite(self.dataset._irds_id, variant)):
                return rewritten_topics(self.dataset._irds_id, name)
            offered = self.dataset._describe_component("topics")
            if not isinstance(offered, list) or variant not in offered:
                choice = f"it has {', '.join(offered)}" if isinstance(offered, list) else "it has one form only"
                raise ValueError(f"{self.name} has no query variant {variant!r}: {choice} (--topics-variant)")
            return self.dataset.get_topics(variant)[["qid", "query"]]
        topics = self.dataset.get_topics()
        field = next((name for name in _USUAL_QUERY_FIELDS if name in topics.columns), None)
        if field is None:
            fields = ", ".join(topics.columns.drop("qid"))
            raise ValueError(f"{self.name} has several forms of each query: choose one of {fields} (--topics-variant)")
        return pd.DataFrame({"qid": topics["qid"].astype(str), "query": topics[field].astype(str)})

    def qrels(self) -> pd.DataFrame:
        """The judgements as a frame of ``qid``, ``docno`` and ``label``."""
        if not (isinstance(self.dataset, LocalDataset) and self.dataset.queries):
            self._require("qrels", "judgements")
        qrels = self.dataset.get_qrels()[["qid", "docno", "label"]]
        return qrels.astype({"qid": str, "docno": str, "label": "int64"})

    def fingerprint(self) -> str:
        """Changes whenever the documents or the field that is read as their text change."""
        if isinstance(self.dataset, IRDSDataset):
            return digest(f"irds:{self.documents_name}", self.text_field)
        assert isinstance(self.dataset, LocalDataset) and self.dataset.docs is not None
        with open(self.dataset.docs, "rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()
        return digest(content, self.text_field, self.empty_text)

    def _text(self, doc: Any) -> str:
        if self.text_field is None:
            return doc.default_text()
        if self.text_field not in doc._fields:
            fields = ", ".join(doc._fields)
            raise ValueError(f"documents of {self.name} have no field {self.text_field!r}; they have {fields}")
        return getattr(doc, self.text_field)

    def _require(self, component: str, what: str) -> None:
        if not self.dataset._describe_component(component):
            raise ValueError(f"{self.name} has no {what}: name another dataset, or files (--docs, --queries, --qrels)")


@dataclass(frozen=True)
class Task:
    """What is measured.

    Attributes:
        topics: the queries that retrieve.
        qrels: their judgements.
        excluded: the documents that no ranking may hold, by qid.
        questions: the same queries as a reranker or a language model reads them: the user's own words, where
            ``topics`` are a rewrite of them. The authors' reranking code reads these, whatever retrieved.
    """

    topics: pd.DataFrame
    qrels: pd.DataFrame
    excluded: dict[str, list[str]]
    questions: pd.DataFrame


def open_collection(
    dataset: str | None,
    docs: Path | None = None,
    queries: Path | None = None,
    qrels: Path | None = None,
    *,
    text_field: str | None = None,
    empty_text: EmptyText = "error",
) -> Collection:
    """Finds the collection that a command's arguments name.

    Raises:
        ValueError: for an unknown id, or where both an id and files, or neither, are named.
    """
    if (dataset is None) == (docs is None and queries is None):
        raise ValueError("name either a dataset (say radar:theorems) or files (--docs, --queries, --qrels)")
    if dataset is None:
        for path in (docs, queries, qrels):
            if path is not None:
                path.stat()
        local = LocalDataset(docs=docs, queries=queries, qrels=qrels, text_field=text_field, empty_text=empty_text)
        return Collection((docs or queries or Path()).name, local, text_field, empty_text)
    if qrels is not None or docs is not None or queries is not None:
        raise ValueError(f"{dataset} brings its own documents, queries and judgements: name the dataset or files")
    found = _find(dataset)
    if isinstance(found, LocalDataset):
        found.text_field = text_field
    return Collection(dataset, found, text_field, empty_text)


def load_task(collection: Collection, *, variant: str | None, exclude_self: bool) -> Task:
    """Reads queries and judgements; judgements of -100 and below become exclusions.

    Raises:
        ValueError: if no query is judged.
    """
    topics, qrels = collection.topics(variant), collection.qrels()
    banned = qrels[qrels["label"] <= EXCLUDED_LABEL]
    qrels = qrels[(qrels["label"] > EXCLUDED_LABEL) & qrels["qid"].isin(set(topics["qid"]))]
    judged = topics["qid"].isin(set(qrels["qid"]))
    if not judged.any():
        raise ValueError(f"no query of {collection.name} is judged: do the qids of queries and judgements agree?")
    if not judged.all():
        note(f"{(~judged).sum()} of {len(topics)} queries have no judgement and are left out")
    topics = topics[judged].reset_index(drop=True)
    excluded = {str(qid): sorted(docnos) for qid, docnos in banned.groupby("qid", sort=False)["docno"]}
    if exclude_self:
        excluded = {qid: sorted({*excluded.get(qid, []), qid}) for qid in topics["qid"]}
        qrels = qrels[qrels["qid"] != qrels["docno"]]
    return Task(topics, qrels.reset_index(drop=True), excluded, questions=topics)


def resolve_instruction(choice: str, dataset: str | None, checkpoint: Checkpoint) -> str:
    """The instruction for queries: as given, or for ``"auto"`` the benchmark's own.

    A checkpoint that reads plain texts was trained with none, so ``"auto"`` gives it none.
    """
    if choice != "auto":
        return choice
    instruction = "" if checkpoint.template == PLAIN else instruction_for_dataset(dataset or "")
    if instruction:
        note(f"instruction: {instruction!r}")
    return instruction


def cache_folder(collection: Collection, *settings: object) -> Path:
    """The folder under the user's cache where something built from a collection with some settings is kept."""
    root = os.environ.get("RADAR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pyterrier-radar"
    name = slug(collection.documents_name)
    return Path(root).expanduser() / f"{name}-{digest(collection.fingerprint(), *settings)[:16]}"


def slug(name: str) -> str:
    """Turns a dataset's name into one safe to use in a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:60] or "collection"


def digest(*parts: object) -> str:
    """A short stable hash of the parts' representations."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _find(dataset: str) -> pt.datasets.Dataset:
    name = dataset if ":" in dataset else f"irds:{dataset}"
    try:
        return pt.get_dataset(name)
    except KeyError as error:
        import ir_datasets

        known = ["radar:theorems", *ir_datasets.registry]
        close = difflib.get_close_matches(dataset, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "use an ir_datasets id or radar:theorems"
        raise ValueError(f"unknown dataset {dataset!r}: {hint}") from error
