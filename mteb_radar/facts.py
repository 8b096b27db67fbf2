"""What mteb is told of a model that is about to run: which checkpoint, which commit, with which settings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mteb.models.model_meta import ModelMeta, ScoringFunction

from mteb_radar import models
from torch_radar.checkpoints import CHECKPOINTS, RADAR_JSON, Checkpoint, Kind, resolve
from torch_radar.loading import LazyModel, choose_dtype, weights_folder
from torch_radar.templates import PairTemplate, TextTemplate

METAS: dict[str, ModelMeta] = {
    str(meta.name): meta for meta in vars(models).values() if isinstance(meta, ModelMeta) and meta.name
}
"""Metadata of the released checkpoints, by name."""
COMMIT = re.compile(r"[0-9a-f]{40}")


def checkpoint_of(name: str | Path | Checkpoint, revision: str | None, kind: Kind) -> Checkpoint:
    """Returns the checkpoint of a name, at the commit asked for or else at the one its metadata was written for.

    Raises:
        CheckpointError: The name is unknown.
        ValueError: It is a reranker where a retriever is needed, or the other way round.
    """
    checkpoint = resolve(name)
    if checkpoint.kind != kind:
        raise ValueError(f"{checkpoint.name} is a {checkpoint.kind}, and a {kind} is needed here")
    if checkpoint.name in METAS and revision is None:
        revision = METAS[checkpoint.name].revision
    return replace(checkpoint, revision=revision) if revision is not None else checkpoint


def changed_settings(
    model: LazyModel, template: TextTemplate | PairTemplate | None, instruction: str | None = None, **limits: int | None
) -> dict[str, Any]:
    """Returns what differs from the checkpoint's own settings, in a form that names a folder.

    Texts have a digest behind them: such a name has no line breaks and few punctuation marks.
    """
    settings: dict[str, Any] = dict(limits)
    if model.dtype != choose_dtype(model.device):
        settings["dtype"] = str(model.dtype).removeprefix("torch.")
    if template is not None:
        settings["template"] = _named(template.name, json.dumps(asdict(template), sort_keys=True))
    if instruction is not None:
        settings["instruction"] = _named(instruction, instruction)
    return {name: value for name, value in settings.items() if value is not None}


def with_settings(meta: ModelMeta, changed: Mapping[str, Any]) -> ModelMeta:
    """Returns metadata with more changed settings, so that mteb keeps the results apart."""
    return meta.model_copy(update={"experiment_kwargs": dict(meta.experiment_kwargs or {}) | dict(changed)})


def describe(model: LazyModel, changed: Mapping[str, Any]) -> ModelMeta:
    """Returns the metadata of a model.

    A released checkpoint has the metadata of :mod:`mteb_radar.models`, with the commit that the hub's cache holds. A
    folder of your own gets what can be known of it, and a digest of its weights for a revision.

    Args:
        model: The model, loaded or not; its files are fetched if they are not here.
        changed: Settings that differ from the checkpoint's own and change its output; mteb keeps results of such a
            model apart.
    """
    checkpoint = model.checkpoint
    known = METAS.get(checkpoint.name) or _released_folder(checkpoint)
    revision = checkpoint.revision or ""
    if not COMMIT.fullmatch(revision):  # a branch moves
        revision = _commit(checkpoint) or revision or f"weights-{model.weights_digest()}"
    if known is not None:
        return known.model_copy(update={"revision": revision, "experiment_kwargs": dict(changed) or None})
    packaged = checkpoint.name in CHECKPOINTS
    return ModelMeta(
        loader=None,
        name=f"radar/{checkpoint.name}" if packaged else f"local/{Path(checkpoint.name).resolve().name}",
        revision=revision,
        release_date=None,
        languages=["eng-Latn"],
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=checkpoint.max_tokens,
        embed_dim=None,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "Transformers", "safetensors"],
        similarity_fn_name=ScoringFunction.COSINE if checkpoint.kind == "retriever" else None,
        use_instructions=bool(getattr(checkpoint.template, "query_prefix", "")),
        training_datasets=None,
        model_type=["dense" if checkpoint.kind == "retriever" else "cross-encoder"],
        experiment_kwargs=dict(changed) or None,
    )


def _released_folder(checkpoint: Checkpoint) -> ModelMeta | None:
    """The metadata of a local copy that keeps its released name, and says nothing else of itself."""
    folder = Path(checkpoint.name).expanduser()
    if not folder.is_dir() or (folder / RADAR_JSON).is_file():
        return None
    return METAS.get(f"Raderspace/{folder.resolve().name}")


def _commit(checkpoint: Checkpoint) -> str | None:
    """The commit of weights that lie in the hub's cache, which keeps them in a folder of that name."""
    folder = weights_folder(checkpoint.name, checkpoint.revision)
    return folder.name if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name) else None


def _named(text: str, content: str) -> str:
    return f"{' '.join(text.split())} {hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}".strip()
