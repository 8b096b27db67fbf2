"""Dense indexes of collections: built once, resumed where they were stopped, never taken for another's."""

import json
import os
from pathlib import Path

from pyterrier_radar import RadarBiEncoder, RadarIndex
from pyterrier_radar.commands._collection import Collection, cache_folder
from pyterrier_radar.commands._frame import note
from pyterrier_radar.commands._options import StoreDtype
from torch_radar.encoder import Encoder
from torch_radar.instructions import instruction_for_dataset

_RECORD = "collection.json"


def open_dense_index(
    collection: Collection,
    encoder: RadarBiEncoder,
    path: Path | None = None,
    *,
    dtype: StoreDtype = "float16",
) -> RadarIndex:
    """Returns the index of a collection, after building what is missing of it.

    Args:
        collection: what to index.
        encoder: the model; a store made by another one is refused.
        path: the folder of the index; ``None`` takes one in the cache that belongs to collection and model.
        dtype: precision of the stored vectors.

    Raises:
        ValueError: if the folder holds the index of another collection or of another model.
    """
    if path is None:
        settings = sorted(encoder.encoder.document_settings().items())
        path = cache_folder(collection, "dense", settings, dtype, collection.empty_text)
    at_empty = "encode" if collection.empty_text == "keep" else collection.empty_text
    index = RadarIndex(path, encoder, dtype=dtype, empty_text=at_empty, verbose=True)
    record = path / _RECORD
    content = {"collection": collection.name, "documents": collection.fingerprint()}
    if index.built():
        index.query_encoder  # noqa: B018 (refuses another model's vectors before anything is computed)
        if not record.exists():
            note(f"{path} does not say what it is an index of: taking it for {collection.name}")
        elif json.loads(record.read_text("utf-8"))["documents"] != content["documents"]:
            raise ValueError(
                f"{path} is an index of other documents than those of {collection.name} (or of an older state of "
                "them): name another folder with --index, or remove this one"
            )
        return RadarIndex(path, encoder)
    note(f"indexing {collection.name} with {encoder.encoder.checkpoint.name} in {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    index.index(collection.documents())
    partial = record.with_name(_RECORD + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    os.replace(partial, record)
    return RadarIndex(path, encoder)


def reopen_dense_index(
    path: Path,
    model: str | None,
    *,
    instruction: str,
    dataset: str | None,
    device: str | None,
    dtype: str | None,
) -> RadarIndex:
    """Opens a finished index to search it, with the model that made it unless another is named.

    Args:
        path: the folder of the index.
        model: a checkpoint whose vectors fit those of the index.
        instruction: for the queries; empty takes the one the index remembers, ``"auto"`` the dataset's own.
        dataset: where the queries come from, for ``"auto"``.
        device: where queries are encoded.
        dtype: precision in which queries are encoded.

    Raises:
        ValueError: if there is no finished index, or it holds vectors of another or of an unknown model.
    """
    index = RadarIndex(path)
    index.complete_store()
    stored = index.encoder
    if stored is None and model is None:
        raise ValueError(f"{path} holds vectors made elsewhere: name the model that made them (--model)")
    if instruction == "auto":
        instruction = instruction_for_dataset(dataset or "")
    elif not instruction and stored is not None:
        instruction = stored.instruction
    encoder = Encoder(
        model or (stored.checkpoint if stored else None),
        instruction=instruction,
        max_document_tokens=stored.max_document_tokens if stored else None,
        device=device,
        dtype=dtype,
    )
    return RadarIndex(path, encoder)
