"""RaDeR in Pyserini's shape: encoders for its commands and searchers, and its FAISS folders to and from ours.

- ``python -m pyserini_radar.encode …`` is ``python -m pyserini.encode …`` with a RaDeR checkpoint;
- ``python -m pyserini_radar.search_faiss …`` is ``python -m pyserini.search.faiss …`` with one;
- ``FaissSearcher(folder, RadarQueryEncoder("Raderspace/…"))`` searches in Python, after ``prepare_pyserini()`` where
  there is no Java 21 but that of the extra ``pyserini``;
- ``radar pyserini export`` and ``import`` carry vectors between a RadarIndex and Pyserini.

Names are loaded on first use; neither Pyserini nor torch is imported before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyserini_radar.encoders import RadarDocumentEncoder, RadarQueryEncoder
    from pyserini_radar.folders import export_faiss, import_faiss
    from pyserini_radar.preparation import prepare_pyserini

_MODULES = {
    "RadarDocumentEncoder": "encoders",
    "RadarQueryEncoder": "encoders",
    "export_faiss": "folders",
    "import_faiss": "folders",
    "prepare_pyserini": "preparation",
}

__all__ = ["RadarDocumentEncoder", "RadarQueryEncoder", "export_faiss", "import_faiss", "prepare_pyserini"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
