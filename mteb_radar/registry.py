"""Models by name: for this room, and for mteb's own registry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from mteb.models.model_meta import ModelMeta

from mteb_radar.facts import METAS
from mteb_radar.reranker import RadarReranker
from mteb_radar.search import RadarSearch
from torch_radar.checkpoints import Checkpoint, resolve


def load_model(
    name: str | Path | Checkpoint | None = None,
    revision: str | None = None,
    *,
    folder: str | Path | None = None,
    devices: Sequence[str] = (),
    **settings: Any,
) -> RadarSearch | RadarReranker:
    """Returns a model that ``mteb.evaluate`` takes: a retriever with its search, or a reranker.

    Args:
        name: A released name, a folder with ``radar.json``, a packaged model; ``None`` is the small default.
        revision: Hub commit of the weights.
        folder: Where a retriever keeps vectors; see :class:`RadarSearch`.
        devices: Devices that encode documents; see :class:`RadarSearch`. A reranker runs on the first.
        **settings: See :class:`RadarEncoder` or :class:`RadarReranker`.
    """
    checkpoint = resolve(name)
    if checkpoint.kind == "retriever":
        return RadarSearch(checkpoint, revision, folder=folder, devices=devices, **settings)
    if devices:
        settings.setdefault("device", devices[0])
    return RadarReranker(checkpoint, revision, **settings)


class RegisteredMeta(ModelMeta):
    """Metadata whose models keep what was seen when they were made: the commit, and the changed settings.

    mteb would put the metadata from before in its place.
    """

    def load_model(self, device: str | None = None, *, embed_dim: int | None = None, **settings: Any) -> Any:
        """Returns the model.

        Raises:
            ValueError: It has vectors of another size.
        """
        if embed_dim not in (None, self.embed_dim):
            raise ValueError(f"{self.name} has vectors of {self.embed_dim} values, not {embed_dim}")
        return self.loader(self.name, revision=self.revision, device=device, **settings)


def register() -> None:
    """Puts the released checkpoints into mteb's registry, behind this room's fast classes.

    ``mteb.get_model`` finds them from then on, in this process. A commit that the metadata does not know is read from
    the hub's cache, where the weights are in it.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    for name, meta in METAS.items():
        loader = RadarReranker if meta.is_cross_encoder else RadarSearch
        fields = {field: getattr(meta, field) for field in ModelMeta.model_fields}
        fields |= {"loader": loader, "loader_kwargs": {}, "revision": meta.revision or _cached_commit(name)}
        MODEL_REGISTRY[name] = RegisteredMeta(**fields)


def _cached_commit(name: str) -> str | None:
    """The newest commit of a repository in the hub's cache; None where it is not there."""
    for file in ("config.json", "adapter_config.json"):
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return Path(found).parent.name
    return None
