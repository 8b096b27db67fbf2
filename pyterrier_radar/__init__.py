"""RaDeR, reasoning-aware dense retrieval (arXiv 2505.18405), as PyTerrier transformers.

Every class lives in a private module of its own and is imported when it is first asked for, so that
``import pyterrier_radar`` costs nothing and loads neither torch nor pyterrier-dr.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyterrier_radar._answers import AnswerQuestions
    from pyterrier_radar._bi_encoder import RadarBiEncoder
    from pyterrier_radar._exclude import ExcludeDocuments
    from pyterrier_radar._families import RATING_FAMILIES
    from pyterrier_radar._fusion import ReciprocalRankFusion, reciprocal_rank_fusion
    from pyterrier_radar._index import RadarIndex
    from pyterrier_radar._interpolate import Interpolate, interpolate
    from pyterrier_radar._lucene import LuceneBM25
    from pyterrier_radar._passages import MaxPassage, SlidingWindows
    from pyterrier_radar._rating import RatingReranker
    from pyterrier_radar._reasoning import ReasoningQuery
    from pyterrier_radar._reranker import RadarReranker
    from pyterrier_radar._retriever import RadarRetriever

__all__ = [
    "AnswerQuestions",
    "ExcludeDocuments",
    "Interpolate",
    "LuceneBM25",
    "MaxPassage",
    "RATING_FAMILIES",
    "RadarBiEncoder",
    "RadarIndex",
    "RadarReranker",
    "RadarRetriever",
    "RatingReranker",
    "ReasoningQuery",
    "ReciprocalRankFusion",
    "SlidingWindows",
    "interpolate",
    "reciprocal_rank_fusion",
]

_MODULES = {
    "AnswerQuestions": "_answers",
    "ExcludeDocuments": "_exclude",
    "Interpolate": "_interpolate",
    "LuceneBM25": "_lucene",
    "MaxPassage": "_passages",
    "RATING_FAMILIES": "_families",
    "RadarBiEncoder": "_bi_encoder",
    "RadarIndex": "_index",
    "RadarReranker": "_reranker",
    "RadarRetriever": "_retriever",
    "RatingReranker": "_rating",
    "ReasoningQuery": "_reasoning",
    "ReciprocalRankFusion": "_fusion",
    "SlidingWindows": "_passages",
    "interpolate": "_interpolate",
    "reciprocal_rank_fusion": "_fusion",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
