"""The splits of an experiment in a user's files: BRIGHT's shape, BEIR's, or RAR-b's choices, as PyTerrier datasets."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyterrier as pt

from pyterrier_radar._exclude import EXCLUDED_LABEL
from pyterrier_radar.datasets import LocalDataset
from torch_radar.instructions import BRIGHT_REWRITES
from torch_radar.local_tasks import (
    DOCUMENTS,
    LONG_DOCUMENTS,
    LocalTask,
    find_lines,
    read_bright_folder,
    read_choices,
    read_rewrite,
)


class TaskDataset(LocalDataset):
    """A collection of :mod:`torch_radar.local_tasks` with the interface of every other PyTerrier dataset.

    Excluded documents are judgements of -100, as in ir_datasets' BRIGHT; rewrites of the queries are variants.
    """

    def __init__(self, name: str, documents: Path, read: Callable[[], LocalTask], rewrites: Path | None = None):
        """Names the files; they are read when something is asked of them.

        Args:
            name: a name to show.
            documents: the file that holds the documents.
            read: reads the collection.
            rewrites: a folder with rewrites of the queries.
        """
        super().__init__(docs=documents, queries=documents, qrels=documents, name=name, language="en")
        self._read, self._rewrites = read, rewrites

    @cached_property
    def _task(self) -> LocalTask:
        return self._read()

    def get_corpus_iter(self, *, verbose: bool = True) -> Iterator[dict[str, str]]:
        """Streams the documents as dicts with ``docno`` and ``text``."""
        documents = ({"docno": docno, "text": text} for docno, text in self._task.documents.items())
        return iter(pt.tqdm(documents, desc=f"{self} documents", unit="doc")) if verbose else documents

    def get_topics(self, variant: str | None = None) -> pd.DataFrame:
        """Returns the queries, or one rewrite of them: a frame with ``qid`` and ``query``.

        Raises:
            ValueError: a query has no rewrite.
            FileNotFoundError: there is no such rewrite.
        """
        queries = self._task.queries
        if variant not in (None, "text"):
            assert self._rewrites is not None and variant is not None
            rewritten = read_rewrite(self._rewrites, variant)
            if missing := [qid for qid in queries if not rewritten.get(qid)]:
                raise ValueError(f"{variant} of {self} has no query {missing[0]!r}")
            queries = {qid: rewritten[qid] for qid in queries}
        return pd.DataFrame({"qid": list(queries), "query": list(queries.values())}, dtype=str)

    def get_qrels(self, variant: str | None = None) -> pd.DataFrame:
        """Returns the judgements: ``qid``, ``docno`` and ``label``, -100 for what is excluded."""
        rows = [(qid, docno, grade) for qid, grades in self._task.relevant.items() for docno, grade in grades.items()]
        rows += [
            (qid, docno, EXCLUDED_LABEL) for qid, docnos in self._task.excluded.items() for docno in sorted(docnos)
        ]
        return pd.DataFrame(rows, columns=["qid", "docno", "label"])

    def _describe_component(self, component: str) -> bool | list[str]:
        if component != "topics" or self._rewrites is None:
            return True
        return ["text", *(name for name in BRIGHT_REWRITES if find_lines(self._rewrites, name))]


def local_split(folder: Path, name: str) -> LocalDataset:
    """Finds the files of an experiment's split in a folder.

    Args:
        folder: holds ``earth-science/`` (or ``earth_science/``) and the like: in BRIGHT's shape, see
            :mod:`torch_radar.local_tasks`, where the documents of ``biology-long`` are the long ones of ``biology/``;
            or in BEIR's, ``corpus.jsonl``, ``queries.jsonl``, and ``qrels/test.tsv`` or ``qrels.tsv``. Or ``piqa.csv``
            and the like, in RAR-b's form.
        name: the split.

    Raises:
        FileNotFoundError: there is nothing of that name.
    """
    is_long = name.endswith("-long")
    bare = name.removesuffix("-long")
    place = next(
        (folder / spelled for spelled in (bare, bare.replace("-", "_")) if (folder / spelled).is_dir()), folder / bare
    )
    if documents := find_lines(place, LONG_DOCUMENTS if is_long else DOCUMENTS):
        return TaskDataset(name, documents, lambda: read_bright_folder(place, long=is_long), place)
    if (corpus := find_lines(place, "corpus")) and (queries := find_lines(place, "queries")) and not is_long:
        judged = next((path for end in ("qrels/test.tsv", "qrels.tsv") if (path := place / end).is_file()), None)
        if judged is None:
            raise FileNotFoundError(f"{place} holds no qrels/test.tsv and no qrels.tsv: judgements are needed")
        # empty documents are kept, as those of ir_datasets are
        return LocalDataset(docs=corpus, queries=queries, qrels=judged, empty_text="keep", name=name, language="en")
    if (choices := folder / f"{name}.csv").is_file():
        return TaskDataset(name, choices, lambda: read_choices(choices))
    raise FileNotFoundError(
        f"{folder} has nothing of {name}: neither a folder {place.name} with {DOCUMENTS}.jsonl and examples.jsonl "
        f"(BRIGHT) or corpus.jsonl and queries.jsonl (BEIR), nor {name}.csv (RAR-b)"
    )
