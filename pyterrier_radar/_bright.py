"""BRIGHT's rewritten queries, read from the column that BRIGHT's own evaluation reads.

BRIGHT publishes each rewrite as a configuration (``gpt4_reason`` …) with the columns of the original: its ``query`` is
the rewrite, and that column is what BRIGHT's code retrieves with; its ``reasoning`` holds the annotators' notes, of
which BRIGHT's authors say that no experiment uses them (issue 4 of their repository). ir_datasets 0.6.3 takes
``reasoning`` for the rewrite. So its files are used here, and its choice of the column is not.
"""

import ir_datasets
import pandas as pd

from torch_radar.instructions import BRIGHT_REWRITES


def bright_rewrite(dataset_id: str, variant: str) -> str | None:
    """Returns BRIGHT's name of a rewrite, given that name or ir_datasets' field; None where it is neither.

    Args:
        dataset_id: An ir_datasets id; only those of BRIGHT have rewrites.
        variant: ``"Gemini-1.0_reason"`` or ``"gemini_1_0_reason"``, and so on.
    """
    if not dataset_id.startswith("bright/"):
        return None
    return next((name for name in BRIGHT_REWRITES if variant in (name, rewrite_field(name))), None)


def rewrite_field(rewrite: str) -> str:
    """Returns what ir_datasets calls a rewrite: it allows letters, digits and ``_``."""
    return rewrite.lower().replace("-", "_").replace(".", "_")


def rewritten_topics(dataset_id: str, rewrite: str) -> pd.DataFrame:
    """Returns the queries of a BRIGHT split under one of :data:`BRIGHT_REWRITES`: ``qid`` and ``query``.

    Args:
        dataset_id: An ir_datasets id such as ``bright/earth-science-long``; long splits have the same queries.
        rewrite: The rewrite, by BRIGHT's name.

    Raises:
        ValueError: A query of the split has no rewrite.
        ImportError: pyarrow is missing.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("ir_datasets keeps BRIGHT as Parquet: pip install pyarrow") from error
    split = dataset_id.removeprefix("bright/").removesuffix("-long")
    folder = ir_datasets.util.home_path() / "bright"
    files = ir_datasets.util.DownloadConfig.context("bright", folder)
    table = parquet.read_table(files[f"{split}/{rewrite}/queries"].path(), columns=["id", "query"]).to_pydict()
    rewritten = dict(zip(map(str, table["id"]), table["query"], strict=True))
    qids = [query.query_id for query in ir_datasets.load(dataset_id).queries_iter()]
    if missing := [qid for qid in qids if not rewritten.get(qid)]:
        raise ValueError(f"{rewrite} has no query {missing[0]!r} of {dataset_id}")
    return pd.DataFrame({"qid": qids, "query": [rewritten[qid] for qid in qids]}, dtype=str)
