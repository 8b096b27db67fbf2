"""The paper's result rows (arXiv 2505.18405), as printed: what measured rows are shown beside.

Splits of BRIGHT are named as in :mod:`torch_radar.instructions`; all values are × 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch_radar.instructions import BRIGHT_SPLITS

GPT4 = "gpt4_reason"
ORIGINAL = "original"


@dataclass(frozen=True)
class Row:
    """One row of the paper.

    Attributes:
        name: The system.
        queries: The queries it was measured on: "original", or "gpt4_reason" for GPT-4's rewrites.
        values: The measure × 100 of each split; empty where the paper prints the mean alone.
        average: The mean, as printed; None where there is none.
        checkpoint: The released checkpoint behind the row; "" where it is another model or a combination.
        measure: What was measured, by its ir_measures name.
    """

    name: str
    queries: str
    values: Mapping[str, float]
    average: float | None = None
    checkpoint: str = ""
    measure: str = "nDCG@10"


GTE = "Raderspace/RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical"
QWEN = "Raderspace/RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical"
QWEN_ALL = "Raderspace/RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes"
QWEN_3B = "Raderspace/RaDeR_Qwen25_3B_NuminaMath_MATH_allquerytypes"
QWEN_14B = "Raderspace/RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes"


def _bright(name: str, queries: str, printed: str, average: float, checkpoint: str = "") -> Row:
    """A row of the BRIGHT tables, its values in the order of :data:`BRIGHT_SPLITS`."""
    values = [float(value) for value in printed.split()]
    return Row(name, queries, dict(zip(BRIGHT_SPLITS, values, strict=True)), average, checkpoint)


BRIGHT = (
    _bright("BM25", ORIGINAL, "18.9 27.2 14.9 12.5 13.6 18.4 15.0 24.4 7.9 6.2 10.4 4.9", 14.5),
    _bright("gte-Qwen2-7B", ORIGINAL, "34.1 42.6 18.2 27.4 13.2 17.3 20.9 30.4 2.2 13.3 30.6 32.6", 23.5),
    _bright("RaDeR Qwen2.5-7B", ORIGINAL, "25.4 30.0 16.7 25.3 14.0 21.3 16.3 37.0 8.2 15.7 42.7 44.4", 24.6, QWEN),
    _bright("RaDeR gte-Qwen2-7B", ORIGINAL, "34.6 38.9 22.1 33.0 14.8 22.5 23.7 37.3 5.0 10.2 28.4 35.1", 25.5, GTE),
    _bright(
        "RaDeR Qwen2.5-7B MATH+Numina",
        ORIGINAL,
        "25.1 28.3 18.2 25.9 15.3 22.2 16.3 35.9 6.9 10.4 40.8 47.1",
        24.4,
        QWEN_ALL,
    ),
    _bright("RaDeR Qwen2.5-3B", ORIGINAL, "26.9 29.7 16.5 24.8 13.3 19.3 15.2 37.5 10.6 9.4 34.9 36.9", 22.9, QWEN_3B),
    _bright(
        "RaDeR Qwen2.5-14B", ORIGINAL, "30.9 31.5 17.3 27.9 16.0 24.2 16.4 40.9 10.2 12.7 42.6 45.8", 26.4, QWEN_14B
    ),
    _bright(
        "RaDeR Qwen2.5 reranker, BM25 top 100",
        ORIGINAL,
        "26.9 30.6 17.0 24.9 18.2 17.8 20.5 23.7 14.3 4.4 22.4 13.6",
        19.5,
    ),
    _bright("BM25", GPT4, "53.6 54.1 24.3 38.7 18.9 27.7 26.3 19.3 17.6 3.9 19.2 20.8", 27.0),
    _bright("RaDeR gte-Qwen2-7B", GPT4, "36.1 42.9 25.2 37.9 16.6 27.4 25.0 34.8 11.9 12.0 37.7 43.4", 29.2, GTE),
    _bright("RaDeR gte-Qwen2-7B + BM25", GPT4, "52.7 56.1 30.9 46.7 24.1 35.0 32.2 32.0 25.9 12.0 37.7 43.4", 35.7),
    _bright(
        "RaDeR gte-Qwen2-7B + BM25 + rating of the top 100",
        GPT4,
        "58.0 59.2 33.0 49.4 31.8 39.0 36.4 33.5 33.3 10.8 34.2 51.6",
        39.2,
    ),
    _bright(
        "RaDeR Qwen2.5-7B MATH+Numina",
        GPT4,
        "37.5 40.0 19.3 31.1 14.1 25.8 17.6 27.2 18.7 9.9 40.9 46.4",
        27.4,
        QWEN_ALL,
    ),
    Row("RaDeR Qwen2.5-7B MATH+Numina + BM25", GPT4, {}, 35.5),
    Row("RaDeR Qwen2.5-7B MATH+Numina + BM25 + rating of the top 100", GPT4, {}, 38.8),
)

RARB = (Row("RaDeR gte-Qwen2-7B, all query types", ORIGINAL, {"math": 85.2, "code": 83.5}),)

MS_MARCO = (
    Row("RaDeR gte-Qwen2-7B", ORIGINAL, {"dev": 34.4}, measure="RR@10"),
    Row("RaDeR gte-Qwen2-7B", ORIGINAL, {"dev": 98.1}, measure="R@1000"),
    Row("RaDeR gte-Qwen2-7B", ORIGINAL, {"dl19": 71.2, "dl20": 70.7}),
)
