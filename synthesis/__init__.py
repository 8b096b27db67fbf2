"""Synthesis: problems with answers, a theorem corpus and a language model in; training triples out (paper §4).

Names are loaded on first use, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthesis.engine import RunReport
    from synthesis.problems import Problem
    from synthesis.run import synthesize
    from synthesis.settings import Settings
    from synthesis.store import Store

_HOME = {
    "Problem": "problems",
    "RunReport": "engine",
    "Settings": "settings",
    "Store": "store",
    "synthesize": "run",
}

__all__ = ["Problem", "RunReport", "Settings", "Store", "synthesize"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'synthesis' has no attribute {name!r}")
    return getattr(import_module(f"synthesis.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
