"""What an index remembers of the model that made it: enough to check documents against it and encode queries."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder
from torch_radar.templates import TextTemplate
from torch_radar.vectors import StoreMismatchError, VectorStore

GIVEN_VECTORS: dict[str, Any] = {"vectors": "as given in doc_vec"}
"""Settings of an index whose vectors came from outside: any model may have made them."""


def recipe(encoder: Encoder, text_field: str) -> dict[str, Any]:
    """Settings to store with vectors that this encoder makes."""
    checkpoint = replace(
        encoder.checkpoint,
        name=_absolute(encoder.checkpoint.name),
        base=_absolute(encoder.checkpoint.base) if encoder.checkpoint.base else None,
        template=encoder.template,
    )
    return encoder.document_settings() | {
        "text_field": text_field,
        "encoder": {
            "checkpoint": asdict(checkpoint),
            "instruction": encoder.instruction,
            "max_query_tokens": encoder.max_query_tokens,
            "max_document_tokens": encoder.max_document_tokens,
        },
    }


def stored_encoder(settings: Mapping[str, Any]) -> Encoder | None:
    """The encoder that stored settings describe, without weights yet; None where vectors came from outside."""
    if "encoder" not in settings:
        return None
    stored = dict(settings["encoder"])
    fields = stored.pop("checkpoint")
    checkpoint = Checkpoint(**(fields | {"template": TextTemplate(**fields["template"])}))
    return Encoder(checkpoint, **stored)


def require_same_model(store: VectorStore, encoder: Encoder, **more: str) -> None:
    """Checks that an encoder makes document vectors like those of the store, and that ``more`` settings agree.

    A store of given vectors accepts any encoder: only its user can know which one fits.

    Raises:
        StoreMismatchError: Weights, pooling, template or document length differ; the message names them.
    """
    if "encoder" not in store.settings:
        return
    try:
        store.require_settings(store.settings | encoder.document_settings() | more)
    except StoreMismatchError as error:
        maker = store.settings["encoder"]["checkpoint"]["name"]
        raise StoreMismatchError(
            f"the index was made by {maker} and can't be used with {encoder.checkpoint.name} as asked for: {error}"
        ) from error


def _absolute(name: str) -> str:
    """The path of a local folder from the root, so that it is found from any working directory."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name
