"""RaDeR's models in plain PyTorch: text forms, loading, batching, encoding, reranking, vector search.

This room imports no IR framework. Names are loaded on first use, so importing it costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_radar.checkpoints import CHECKPOINTS, Checkpoint, CheckpointError, resolve, save_radar_json
    from torch_radar.encoder import Encoder
    from torch_radar.instructions import bright_instruction
    from torch_radar.reranker import Reranker
    from torch_radar.vectors import VectorStore

_HOME = {
    "CHECKPOINTS": "checkpoints",
    "Checkpoint": "checkpoints",
    "CheckpointError": "checkpoints",
    "resolve": "checkpoints",
    "save_radar_json": "checkpoints",
    "Encoder": "encoder",
    "bright_instruction": "instructions",
    "Reranker": "reranker",
    "VectorStore": "vectors",
}

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "CheckpointError",
    "Encoder",
    "Reranker",
    "VectorStore",
    "bright_instruction",
    "resolve",
    "save_radar_json",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'torch_radar' has no attribute {name!r}")
    return getattr(import_module(f"torch_radar.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
