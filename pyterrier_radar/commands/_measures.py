"""Measures by their ir_measures names, and their values per query."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import ir_measures
import pandas as pd


def parse_measures(names: str) -> list[Any]:
    """Turns ``"nDCG@10 R@100"`` into measures, in that order.

    Raises:
        ValueError: for a name that ir_measures does not know, or for none at all.
    """
    measures = []
    for name in re.findall(r"(?:[^\s,(]|\([^)]*\)?)+", names):
        try:
            measures.append(ir_measures.parse_measure(name))
        except (ValueError, NameError) as error:
            close = difflib.get_close_matches(name.split("@")[0].split("(")[0], ir_measures.measures.registry, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "use ir_measures names such as nDCG@10, R@100"
            raise ValueError(f"unknown measure {name!r}: {hint}") from error
    if not measures:
        raise ValueError("no measure is named: use ir_measures names such as nDCG@10, R@100")
    return measures


def per_query(results: pd.DataFrame, qrels: pd.DataFrame, measures: Sequence[Any]) -> pd.DataFrame:
    """Measures a ranking.

    Equal scores count in the ranking's own order, so that a rating's many ties stay where retrieval put them; tools
    that read scores alone order them by docno.

    Args:
        results: ``qid``, ``docno`` and ``rank``.
        qrels: ``qid``, ``docno`` and ``label``; every query in it counts, one without results as 0.
        measures: from :func:`parse_measures`.

    Returns:
        a frame of values, a row for each judged query (its qid the index), a column for each measure's name.
    """
    values = ir_measures.iter_calc(
        measures,
        qrels.rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"}),
        pd.DataFrame({"query_id": results["qid"], "doc_id": results["docno"], "score": -results["rank"].astype(float)}),
    )
    table = pd.DataFrame([(v.query_id, str(v.measure), v.value) for v in values], columns=["qid", "measure", "value"])
    wide = table.pivot(index="qid", columns="measure", values="value")
    return wide.reindex(index=qrels["qid"].unique(), columns=[str(m) for m in measures]).fillna(0.0)
