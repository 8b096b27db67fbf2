"""Collections as PyTerrier datasets: the project's own, and any that lies in a user's files.

``pt.get_dataset("radar:theorems")`` finds the first through the entry point of
:class:`RadarDatasetProvider`; :class:`LocalDataset` offers the same interface over files.
"""

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyterrier as pt

from pyterrier_radar._equality import EqualBySettings
from pyterrier_radar._files import EmptyText, read_documents, read_queries
from pyterrier_radar._trec import has_positives, read_qrels

_COLLECTIONS = Path(__file__).parent / "collections"
_NAMES = ("theorems",)


class LocalDataset(pt.datasets.Dataset):
    """A test collection in local files, with the interface of every other PyTerrier dataset.

    Example::

        dataset = LocalDataset(docs="notes.jsonl", queries="questions.tsv", qrels="judgements.txt")
        index.index(dataset.get_corpus_iter())
        pt.Experiment([index.retriever()], dataset.get_topics(), dataset.get_qrels(), ["nDCG@10"])
    """

    def __init__(
        self,
        *,
        docs: str | Path | None = None,
        queries: str | Path | None = None,
        qrels: str | Path | None = None,
        text_field: str | None = None,
        empty_text: EmptyText = "error",
        name: str | None = None,
        language: str | None = None,
        url: str | None = None,
    ):
        """Names the files; they are read when they are asked for.

        Args:
            docs: JSONL or TSV, plain or gzip: ``docno`` and ``text``, an optional ``title``, other fields.
            queries: JSONL, TSV or TREC topics: ``qid`` and ``query``.
            qrels: TREC qrels, TSV with a header, or JSONL with ``positives``; ``None`` takes the
                ``positives`` of a queries file that has them.
            text_field: the field of the documents to use as their text.
            empty_text: what to do with a document without text: ``"error"``, ``"skip"`` or ``"keep"``.
            name: a name to show.
            language: ISO 639-1 code of documents and queries.
            url: where to read more.
        """
        self.docs, self.queries, self.qrels = (Path(p) if p else None for p in (docs, queries, qrels))
        self.text_field = text_field
        self.empty_text: EmptyText = empty_text
        self.name = name
        self._language, self._url = language, url

    def get_corpus_iter(self, *, verbose: bool = True) -> Iterator[dict[str, str]]:
        """Streams the documents as dicts with ``docno``, ``text`` and the file's other string fields.

        Raises:
            NotImplementedError: where the dataset has no documents.
            FileFormatError: at a bad record, naming its line.
        """
        documents = read_documents(
            self._file("docs", "get_corpus_iter"), text_field=self.text_field, empty_text=self.empty_text
        )
        return iter(pt.tqdm(documents, desc=f"{self} documents", unit="doc")) if verbose else documents

    def get_topics(self, variant: str | None = None) -> pd.DataFrame:
        """Returns the queries: a frame with ``qid`` and ``query``.

        Raises:
            NotImplementedError: where the dataset has no queries.
            ValueError: for a variant: there is one form of each query.
            FileFormatError: at a bad record, naming its line.
        """
        self._refuse_variant(variant)
        return read_queries(self._file("queries", "get_topics"))

    def get_qrels(self, variant: str | None = None) -> pd.DataFrame:
        """Returns the judgements: a frame with ``qid``, ``docno`` and ``label`` (int64).

        Raises:
            NotImplementedError: where the dataset has none.
            ValueError: for a variant: there is one set of judgements.
            FileFormatError: at a bad record, naming its line.
        """
        self._refuse_variant(variant)
        if self.qrels is None and self.queries is not None and has_positives(self.queries):
            return read_qrels(self.queries)
        return read_qrels(self._file("qrels", "get_qrels"))

    def text_loader(self, fields: str | list[str] = "*", *, verbose: bool = False) -> pt.Transformer:
        """Returns a transformer that adds fields of the documents, ``text`` among them, to a frame by docno.

        Args:
            fields: the fields to add; ``"*"`` adds every one that the first document has.
            verbose: whether to show progress.
        """
        self._file("docs", "text_loader")
        return _TextLoader(self, fields, verbose=verbose)

    def get_corpus_lang(self) -> str | None:
        """Returns the language of the documents, where it was given."""
        return self._language if self.docs else None

    def get_topics_lang(self) -> str | None:
        """Returns the language of the queries, where it was given."""
        return self._language if self.queries else None

    def info_url(self) -> str | None:
        """Returns where to read more, where it was given."""
        return self._url

    def _describe_component(self, component: str) -> bool | list[str] | None:
        files = {"corpus": self.docs, "topics": self.queries, "qrels": self.qrels}
        return True if files.get(component) else None

    def _file(self, kind: str, method: str) -> Path:
        path = getattr(self, kind)
        if path is None:
            raise NotImplementedError(f"{self} does not support {method}: it was made without {kind}=…")
        return path

    def _refuse_variant(self, variant: str | None) -> None:
        if variant is not None:
            raise ValueError(f"{self} has no variant {variant!r}: leave the variant out")

    def __repr__(self) -> str:
        if self.name:
            return self.name
        files = {"docs": self.docs, "queries": self.queries, "qrels": self.qrels}
        return f"LocalDataset({', '.join(f'{k}={str(v)!r}' for k, v in files.items() if v)})"


class _TextLoader(EqualBySettings, pt.Transformer):
    """Adds document fields by docno in one pass over the file; it holds only the documents asked for."""

    schematic = {"label": "TextLoader"}

    def __init__(self, dataset: LocalDataset, fields: str | list[str], *, verbose: bool = False):
        self.dataset = dataset
        self.fields = fields
        self.verbose = verbose

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Returns the frame with the fields as added columns.

        Raises:
            ValueError: for a docno that the collection lacks, or a field that a document lacks.
        """
        pt.validate.columns(inp, includes=["docno"])
        fields = self._field_names()
        wanted = set(inp["docno"])
        found: dict[str, dict[str, str]] = {}
        for document in self.dataset.get_corpus_iter(verbose=self.verbose) if wanted else ():
            if document["docno"] in wanted:
                found[document["docno"]] = document
            if len(found) == len(wanted):
                break
        if absent := wanted - found.keys():
            raise ValueError(f"{self.dataset} has no document {min(absent)!r} ({len(absent)} missing in all)")
        try:
            columns = {field: [found[docno][field] for docno in inp["docno"]] for field in fields}
        except KeyError as error:
            raise ValueError(f"not every document of {self.dataset} has a field {error}") from error
        return inp.assign(**{field: pd.Series(values, index=inp.index, dtype=str) for field, values in columns.items()})

    def fuse_rank_cutoff(self, k: int) -> pt.Transformer:
        """Moves a rank cut-off in front, so that fewer texts are read."""
        return pt.RankCutoff(k) >> self

    def __repr__(self) -> str:
        return f"{self.dataset!r}.text_loader({self.fields!r})"

    def _settings_key(self) -> Hashable:
        dataset = self.dataset
        fields = self.fields if isinstance(self.fields, str) else tuple(self.fields)
        return (str(dataset.docs), dataset.text_field, dataset.empty_text, fields)

    def _field_names(self) -> list[str]:
        if self.fields != "*":
            return [self.fields] if isinstance(self.fields, str) else list(self.fields)
        first = next(iter(self.dataset.get_corpus_iter(verbose=False)), {"docno": "", "text": ""})
        return [field for field in first if field != "docno"]


class RadarDatasetProvider(pt.datasets.DatasetProvider):
    """Offers the collections that come with this package as ``pt.get_dataset("radar:…")``."""

    def get_dataset(self, name: str) -> LocalDataset:
        """Returns one of the project's own collections.

        Raises:
            KeyError: for an unknown name.
        """
        if name not in _NAMES:
            raise KeyError(f"there is no collection {name!r}; there is {', '.join(_NAMES)}")
        folder = _COLLECTIONS / name
        return LocalDataset(
            docs=folder / "documents.jsonl",
            queries=folder / "queries.jsonl",
            qrels=folder / "qrels.txt",
            name=f"radar:{name}",
            language="en",
        )

    def list_dataset_names(self) -> Iterable[str]:
        """Returns the names that :meth:`get_dataset` knows."""
        return list(_NAMES)
