"""The BM25s to choose from: PISA's, Lucene's with BRIGHT's analysis and query side, and Terrier's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyterrier as pt

from pyterrier_radar.commands._options import Engine
from radar_bm25.aside import built_aside
from radar_bm25.index import K1, STEMMER, B, bm25, build_bm25

NAMES: dict[str, str] = {"pisa": "PISA", "lucene": "Lucene", "terrier": "Terrier"}

_LONGEST_DOCNO = 512


def describe_bm25(engine: Engine) -> dict[str, Any]:
    """Everything that changes an engine's ranking of the same documents."""
    if engine == "pisa":
        return {"k1": K1, "b": B, "stemmer": STEMMER}
    settings = {"k1": K1, "b": B, "engine": engine}
    return settings | {"query_side": True} if engine == "lucene" else settings


def open_bm25(engine: Engine, folder: Path, documents: Iterable[dict[str, str]], num_results: int) -> pt.Transformer:
    """Returns a retriever with BRIGHT's parameters, after indexing the documents where that wasn't done before.

    Args:
        engine: whose BM25.
        folder: the folder of the index; it appears only when the index is whole.
        documents: mappings with ``docno`` and ``text``; not drawn from where the index is there.
        num_results: documents for each query.

    Raises:
        ImportError: the extra that the engine needs is missing.
        OSError: the index cannot be built.
    """
    if engine == "pisa":
        return bm25(build_bm25(folder, documents), num_results=num_results)
    if engine == "lucene":
        from pyterrier_radar._lucene import LuceneBM25

        if not folder.exists():
            LuceneBM25.index(folder, documents)
        return LuceneBM25(folder, k1=K1, b=B, num_results=num_results, query_side=True)
    try:
        pt.java.init()
    except OSError as error:
        problem = f"Terrier's Java archives aren't here and can't be fetched from Maven ({error})"
        raise OSError(f"{problem}: fetch them once with a network, or take --bm25 pisa") from error
    if not folder.exists():
        with built_aside(folder) as aside:
            pt.terrier.IterDictIndexer(str(aside), meta={"docno": _LONGEST_DOCNO}).index(iter(documents))
    controls = {"bm25.k_1": str(K1), "bm25.b": str(B)}
    retriever = pt.terrier.Retriever(str(folder), wmodel="BM25", controls=controls, num_results=num_results)
    # Terrier's query parser stops at "/", "{" and "'"
    return pt.rewrite.tokenise() >> retriever >> pt.rewrite.reset()
