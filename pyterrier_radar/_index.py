"""A dense index that resumes where it was stopped and remembers the model that made it."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _recipe
from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._exclude import ExcludeDocuments
from pyterrier_radar._indexer import EmptyText, IndexingMode, RadarIndexer
from pyterrier_radar._retriever import RadarRetriever
from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder
from torch_radar.vectors import VectorStore

if TYPE_CHECKING:
    from pyterrier_dr import FlexIndex

    from pyterrier_radar._bi_encoder import RadarBiEncoder

_READ_ROWS = 4096
# What may lie in the folder of an index before its vectors do: what it is to be an index of, and an unborn store.
_OWN_FILES = ("collection.json", "shards", "manifest.sqlite.new")


class RadarIndex(EqualBySettings, pt.Artifact, pt.Indexer):
    """Document vectors on disk, with exact search.

    ::

        index = RadarIndex("stacks.radar", "Raderspace/RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes")
        index.index(dataset.get_corpus_iter())  # killed? run it again: it goes on where it was
        index.retriever(num_results=100).search("which lemma bounds a finite cover?")

    An index remembers its checkpoint, template, instruction and lengths, so ``RadarIndex("stacks.radar")`` and
    ``pt.Artifact.load("stacks.radar")`` encode queries as they must be, with no further argument.

    Documents with a ``doc_vec`` are stored as they are (``encoder >> index`` works); such an index knows no model
    and retrieves by ``query_vec``. Texts aren't stored: ``index.retriever() >> dataset.text_loader()`` or
    ``pt.text.get_text`` supply them to a reranker. As a transformer, an index is its ``retriever()``.

    .. cite.dblp:: journals/corr/abs-2505-18405
    """

    ARTIFACT_TYPE = "dense_index"
    ARTIFACT_FORMAT = "radar"
    ARTIFACT_PACKAGE_HINT = "pyterrier-radar"

    schematic = {"label": "RadarIndex"}

    def __init__(
        self,
        path: str | Path,
        model: "str | Path | Checkpoint | Encoder | RadarBiEncoder | None" = None,
        *,
        text_field: str = "text",
        dtype: Literal["float16", "float32"] = "float16",
        empty_text: EmptyText = "error",
        verbose: bool = False,
    ):
        """Opens an index, or names the place of a new one.

        Args:
            path: folder of the index.
            model: a checkpoint as :class:`RadarBiEncoder` takes it, or an encoder to share. Where None: the model
                that made the index; for a new index the small default.
            text_field: field of a document that is encoded.
            dtype: precision of the vectors of a new index; float16 is finer than bfloat16 for unit vectors.
            empty_text: what to do with a document without text: refuse it, ``"encode"`` it like any other, or
                ``"skip"`` it, with a warning that counts them.
            verbose: whether to show progress.

        Raises:
            ValueError: The checkpoint or ``empty_text`` is unknown.
        """
        super().__init__(path)
        if empty_text not in ("error", "encode", "skip"):
            raise ValueError(f"empty_text is 'error', 'encode' or 'skip', not {empty_text!r}")
        self.model = model
        self.text_field = text_field
        self.dtype = dtype
        self.empty_text = empty_text
        self.verbose = verbose
        self.given_encoder = None if model is None else _as_encoder(model)

    def index(self, docs: Iterable[Mapping[str, Any]] | pd.DataFrame) -> "RadarIndex":
        """Indexes a collection, or finishes an interrupted run over the same collection.

        Args:
            docs: documents with ``docno`` and the text field, or with ``docno`` and ``doc_vec``.

        Returns:
            This index.

        Raises:
            ValueError: A document can't be indexed (the message names it), the collection isn't the one that an
                interrupted run began with, the model isn't the one that the index was begun with, or the index is
                complete: then say what to do with ``indexer(mode=…)``.
        """
        return self.indexer().index(docs)

    def indexer(self, *, mode: IndexingMode = "create") -> RadarIndexer:
        """An indexer with a choice of mode.

        Args:
            mode: ``"create"`` refuses a complete index, ``"append"`` adds documents to one, ``"overwrite"`` replaces
                it. An interrupted run is resumed by the mode it was started in; an overwriting one by ``"create"``.
        """
        return RadarIndexer(self, mode=mode)

    def index_inputs(self) -> list[list[str]]:
        """The fields that documents must have: one of these lists."""
        return [["docno", self.text_field], ["docno", "doc_vec"]]

    def retriever(
        self,
        num_results: int = 1000,
        *,
        exclude: ExcludeDocuments | pd.DataFrame | Mapping[str, Iterable[str]] | Literal[True] | None = None,
        batch_size: int = 256,
        device: str | None = None,
    ) -> RadarRetriever:
        """An exact retriever; see :class:`RadarRetriever` for its arguments."""
        return RadarRetriever(self, num_results, exclude=exclude, batch_size=batch_size, device=device)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Retrieves with :meth:`retriever` as it comes."""
        return self.retriever()(inp)

    def flex(self, path: str | Path | None = None) -> "FlexIndex":
        """Exports the vectors (float32) for pyterrier-dr's approximate and adaptive retrieval, once.

        Args:
            path: a folder for the export; the path of this index with ``.flex`` added where None.

        Raises:
            ValueError: The export there is older than the index.
        """
        from pyterrier_dr import FlexIndex

        target = Path(path) if path is not None else self.path.with_name(self.path.name + ".flex")
        store = self.complete_store()
        if not target.exists():
            store.to_flex(target)
        elif (target / "pt_meta.json").stat().st_mtime_ns < (self.path / "pt_meta.json").stat().st_mtime_ns:
            raise ValueError(f"{target} is older than the index {self.path}: remove it, or export to another path")
        return FlexIndex(str(target), verbose=self.verbose)

    def get_corpus_iter(self) -> Iterator[dict[str, Any]]:
        """Yields ``docno`` and ``doc_vec`` (float32) of every document, in the order of indexing."""
        store = VectorStore.open(self.path)
        docnos = store.iter_docnos()
        for start in range(0, len(store), _READ_ROWS):
            for vector in store.vectors(start, min(start + _READ_ROWS, len(store))):
                yield {"docno": next(docnos), "doc_vec": vector}

    def built(self) -> bool:
        """Whether an indexing run has reached its end here."""
        return VectorStore.exists(self.path) and VectorStore.open(self.path).is_complete

    def __len__(self) -> int:
        """Number of documents, those of an interrupted run included."""
        return len(VectorStore.open(self.path)) if VectorStore.exists(self.path) else 0

    def __bool__(self) -> bool:
        return True

    def require_own_folder(self) -> None:
        """Checks that an index may be made at this path.

        Raises:
            ValueError: The folder holds something that is no RadarIndex.
        """
        if VectorStore.exists(self.path) or not self.path.exists():
            return
        strangers = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _OWN_FILES)
        if strangers:
            raise ValueError(
                f"{self.path} holds {strangers[0]!r} and is no RadarIndex: choose a new folder, so that nothing is lost"
            )

    def complete_store(self) -> VectorStore:
        """The vectors, once an indexing run is complete.

        Raises:
            ValueError: There is no index here, or its run was interrupted.
        """
        if not VectorStore.exists(self.path):
            raise ValueError(f"there is no index at {self.path}: call index() with a collection first")
        store = VectorStore.open(self.path)
        if not store.is_complete:
            raise ValueError(
                f"the index at {self.path} is incomplete, interrupted after {len(store)} documents: "
                "call index() with the same collection again to finish it"
            )
        return store

    @cached_property
    def encoder(self) -> Encoder | None:
        """The model given, else that of the stored vectors, else the small default; None if it can't be known."""
        if self.given_encoder is not None:
            return self.given_encoder
        if not VectorStore.exists(self.path):
            return Encoder()
        return _recipe.stored_encoder(VectorStore.open(self.path).settings)

    @property
    def search_device(self) -> str:
        """Where to search if nothing else is asked for: the model's GPU, or the CPU."""
        device = self.encoder.device if self.encoder is not None else None
        return str(device) if device is not None and device.type == "cuda" else "cpu"

    @cached_property
    def query_encoder(self) -> Encoder | None:
        """The model for queries, checked against the stored vectors; None if queries must bring vectors."""
        if self.encoder is not None:
            _recipe.require_same_model(self.complete_store(), self.encoder)
        return self.encoder

    @staticmethod
    def example() -> "RadarIndex":
        """The dataset ``radar:theorems``, indexed with the small default model in PyTerrier's home on first use."""
        index = RadarIndex(Path(pt.io.pyterrier_home()) / "radar" / "theorems.radar")
        return index if index.built() else index.index(pt.get_dataset("radar:theorems").get_corpus_iter())

    def remember(self, encoder: Encoder | None) -> None:
        """Takes note of the model that a new store in this place is made with."""
        self.encoder = encoder
        self.__dict__.pop("query_encoder", None)

    def __repr__(self) -> str:
        return f"RadarIndex({str(self.path)!r})"

    def _settings_key(self) -> Hashable:
        given = self.given_encoder
        return (self.path.resolve(), self.text_field, given and frozenset(given.settings().items()))


def _as_encoder(model: "str | Path | Checkpoint | Encoder | RadarBiEncoder") -> Encoder:
    if isinstance(model, Encoder):
        return model
    shared = getattr(model, "encoder", None)  # not isinstance: importing pyterrier-dr takes seconds
    return shared if isinstance(shared, Encoder) else Encoder(model)
