"""RaDeR in MTEB: metadata, fast wrappers, exact search with exclusions, tasks, reports and submissions.

Names are loaded on first use, so importing this room costs nothing; mteb itself takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mteb_radar.encoder import RadarEncoder
    from mteb_radar.local import choice_task, local_benchmark, local_task
    from mteb_radar.predictions import RankingFiles, Rankings, as_reranking
    from mteb_radar.registry import load_model, register
    from mteb_radar.reranker import RadarReranker
    from mteb_radar.search import RadarSearch
    from mteb_radar.tasks import find_benchmark, find_task

_HOME = {
    "RadarEncoder": "encoder",
    "RadarReranker": "reranker",
    "RadarSearch": "search",
    "RankingFiles": "predictions",
    "Rankings": "predictions",
    "as_reranking": "predictions",
    "choice_task": "local",
    "find_benchmark": "tasks",
    "find_task": "tasks",
    "load_model": "registry",
    "local_benchmark": "local",
    "local_task": "local",
    "register": "registry",
}

__all__ = [
    "RadarEncoder",
    "RadarReranker",
    "RadarSearch",
    "RankingFiles",
    "Rankings",
    "as_reranking",
    "choice_task",
    "find_benchmark",
    "find_task",
    "load_model",
    "local_benchmark",
    "local_task",
    "register",
]


def require_mteb() -> None:
    """Checks that mteb is installed, without importing it.

    Raises:
        ImportError: It is missing; the message names the extra.
    """
    if find_spec("mteb") is None:
        raise ImportError("this needs the extra mteb: pip install 'pyterrier-radar[mteb]'")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mteb_radar' has no attribute {name!r}")
    require_mteb()
    return getattr(import_module(f"mteb_radar.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
