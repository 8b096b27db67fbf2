"""Exact search for mteb: a corpus is encoded once, kept on disk, and searched with exclusions as masks.

mteb hands a search the documents that each query may get. BRIGHT lists all but a few there, and mteb's own search then
gathers nearly all vectors anew for every query. Here such a list becomes its complement, and one masked product
serves all queries.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb._create_dataloaders import create_dataloader
from mteb.types import PromptType
from tqdm.auto import tqdm

from mteb_radar.devices import encode_windows
from mteb_radar.encoder import RadarEncoder
from mteb_radar.facts import with_settings
from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import WINDOW
from torch_radar.vectors import VectorStore

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import CorpusDatasetType, EncodeKwargs, QueryDatasetType, RetrievalOutputType

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 16
_STORE_DTYPE = "float32"
_STRETCH = 128


class RadarSearch(RadarEncoder):
    """A :class:`RadarEncoder` that is also mteb's ``SearchProtocol``; mteb takes it for its search.

    Args:
        model_name: See :class:`RadarEncoder`.
        revision: See :class:`RadarEncoder`.
        folder: Where vectors are kept, one store for each corpus; with ``None`` they go when this object goes.
        store_dtype: "float32", which gives mteb's own scores, or "float16", which takes half the room.
        devices: Devices that encode documents, one process each; with none or one, this process does.
        **settings: See :class:`RadarEncoder`.
    """

    def __init__(
        self,
        model_name: str | Path | Checkpoint,
        revision: str | None = None,
        *,
        folder: str | Path | None = None,
        store_dtype: str = _STORE_DTYPE,
        devices: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        if devices:
            settings.setdefault("device", devices[0])
        super().__init__(model_name, revision, **settings)
        if store_dtype not in (_STORE_DTYPE, "float16"):
            raise ValueError(f"store_dtype must be {_STORE_DTYPE} or float16, not {store_dtype!r}")
        if store_dtype != _STORE_DTYPE:
            self.mteb_model_meta = with_settings(self.mteb_model_meta, {"store_dtype": store_dtype})
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="radar-mteb-")
            folder = self._temporary.name
        self.folder = Path(folder)
        self.store_dtype = store_dtype
        self.devices = tuple(devices)
        self.store: VectorStore | None = None
        self.docnos: list[str] = []
        self.corpus_order: list[str] = []

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
        """Encodes a corpus, unless the folder has its vectors; goes on where a killed run stopped.

        Raises:
            ValueError: Two documents share an id and differ, or there is none.
        """
        documents = create_dataloader(
            corpus, task_metadata=task_metadata, prompt_type=PromptType.document, num_proc=num_proc
        ).dataset
        places, digest = _survey(documents, task_metadata.name)
        if not places:
            raise ValueError(f"{task_metadata.name} has no document")
        self.store, self.docnos, self.corpus_order = None, sorted(places), list(places)
        path, settings = self._place(digest)
        store = VectorStore.open(path) if VectorStore.exists(path) else None
        missing = range(0 if store is None else len(store), len(self.docnos), WINDOW)
        if missing:
            logger.info("encoding %d documents of %s", len(self.docnos) - missing.start, task_metadata.name)
        windows = self._windows(documents, places, missing)
        bar = tqdm(missing, desc=f"encoding {task_metadata.name}", unit=" windows", disable=not self.encoder.progress)
        with closing(encode_windows(self.encoder, windows, self.devices)) as vectors:
            for start, rows in zip(bar, vectors, strict=True):
                if store is None:
                    # not before: the dimension is known here, without loading the model beside those of the workers
                    store = VectorStore.create(path, dimension=rows.shape[1], settings=settings, dtype=self.store_dtype)
                store.append(self.docnos[start : start + WINDOW], rows)
        if store is not None and not store.is_complete:
            store.complete()
        self.store = store

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
        """Ranks the indexed corpus for queries.

        Args:
            queries: Columns ``id`` and ``text``.
            task_metadata: Whose instruction the queries get.
            hf_split: Split of the task.
            hf_subset: Subset of the task.
            top_k: The most documents of a query.
            encode_kwargs: What mteb gives an encoder.
            top_ranked: For each query the only documents it may get; a query that it lacks gets none.
            num_proc: Processes that prepare texts.
            **kwargs: Unused.

        Returns:
            For each query id its documents and their cosines, best first.

        Raises:
            ValueError: No corpus was indexed, or ``top_ranked`` names a document that it lacks.
        """
        if self.store is None:
            raise ValueError("no corpus is indexed: call index() first")
        loader = create_dataloader(
            queries, task_metadata=task_metadata, prompt_type=PromptType.query, num_proc=num_proc
        )
        vectors = self.encode(
            loader,
            task_metadata=task_metadata,
            hf_split=hf_split,
            hf_subset=hf_subset,
            prompt_type=PromptType.query,
            **encode_kwargs,
        )
        qids = list(queries["id"])
        exclude, candidates = masks(qids, self.corpus_order, top_ranked)
        device = str(self.encoder.device) if self.encoder.device.type == "cuda" else None
        hits = self.store.search(vectors, top_k, exclude=exclude, candidates=candidates, device=device)
        return {
            qid: {self.docnos[row]: score for row, score in zip(rows, scores, strict=True) if row >= 0}
            for qid, rows, scores in zip(qids, hits.rows.tolist(), hits.scores.tolist(), strict=True)
        }

    def _place(self, corpus: str) -> tuple[Path, dict[str, Any]]:
        """The folder of a corpus with this model's vectors, and what they depend on."""
        settings = self.encoder.document_settings() | {"corpus": corpus, "dtype": str(self.encoder.dtype)}
        digest = _digest(json.dumps(settings | {"store": self.store_dtype}, sort_keys=True).encode())
        return self.folder / digest.hex(), settings

    def _windows(self, documents: Dataset, places: Mapping[str, int], starts: Sequence[int]) -> Iterator[list[str]]:
        for start in starts:
            rows = [places[docno] for docno in self.docnos[start : start + WINDOW]]
            yield list(documents.select(rows)["text"])


def masks(
    qids: Sequence[str], docnos: Sequence[str], top_ranked: Mapping[str, Sequence[str]] | None
) -> tuple[list[list[str] | None] | None, list[list[str] | None] | None]:
    """Turns mteb's lists of the documents that each query may get into what a store is searched with.

    Args:
        qids: Query ids.
        docnos: All documents of the corpus, each once, best in the order of those lists.
        top_ranked: The documents that each query may get, or ``None`` for no restriction.

    Returns:
        Documents to leave out and documents to keep to, for each query one of the two or neither: whichever is shorter.

    Raises:
        ValueError: A list names a document that the corpus lacks.
    """
    if top_ranked is None:
        return None, None
    everything = set(docnos)
    exclude: list[list[str] | None] = []
    candidates: list[list[str] | None] = []
    for qid in qids:
        allowed = list(top_ranked.get(qid, []))
        is_long = 2 * len(allowed) > len(docnos)
        left_out = _passed_over(docnos, allowed) if is_long else None
        if left_out is None and not everything.issuperset(allowed):
            stranger = min(set(allowed) - everything)
            raise ValueError(f"query {qid!r} may get document {stranger!r}, which the corpus lacks")
        if is_long and left_out is None:
            left_out = sorted(everything.difference(allowed))
        exclude.append(left_out)
        candidates.append(None if is_long else allowed)
    return exclude, candidates


def _passed_over(docnos: Sequence[str], allowed: Sequence[str]) -> list[str] | None:
    """What a list leaves out that goes through the documents in their order, as mteb's do; None if it does not.

    Lists are compared in stretches, in two thirds of the time that looking up every document takes.
    """
    left_out: list[str] = []
    here = there = 0
    while here < len(docnos):
        stretch = slice(here, here + _STRETCH)
        if docnos[stretch] == allowed[there : there + _STRETCH]:
            here, there = here + _STRETCH, there + _STRETCH
            continue
        for docno in docnos[stretch]:
            if there < len(allowed) and docno == allowed[there]:
                there += 1
            else:
                left_out.append(docno)
        here += _STRETCH
    return left_out if there >= len(allowed) else None


def _survey(documents: Dataset, task: str) -> tuple[dict[str, int], str]:
    """The place of each document, and a digest of the corpus that does not depend on their order."""
    places: dict[str, int] = {}
    digests: dict[str, int] = {}
    for start in range(0, len(documents), WINDOW):
        window = documents[start : start + WINDOW]
        for place, (docno, text) in enumerate(zip(window["id"], window["text"], strict=True), start):
            digest = int.from_bytes(_digest(json.dumps([docno, text]).encode()), "big")
            if digests.setdefault(docno, digest) != digest:
                raise ValueError(f"{task} has two documents with the id {docno!r}: give each its own")
            places.setdefault(docno, place)
    total = sum(digests.values()) % (1 << 8 * _DIGEST_BYTES)
    return places, total.to_bytes(_DIGEST_BYTES, "big").hex()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
