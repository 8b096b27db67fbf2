"""Dense indexes of collections: built once, resumed where they were stopped, never taken for another's."""

import json
import os
from pathlib import Path

from pyterrier_radar import RadarBiEncoder, RadarIndex
from pyterrier_radar.commands._collection import Collection, cache_folder, resolve_instruction
from pyterrier_radar.commands._options import StoreDtype
from radar_cli import note
from torch_radar.checkpoints import resolve
from torch_radar.encoder import Encoder

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
    _claim(index, collection)
    if index.built():
        index.query_encoder  # noqa: B018 (refuses another model's vectors before anything is computed)
        return RadarIndex(path, encoder)
    note(f"indexing {collection.name} with {encoder.encoder.checkpoint.name} in {path}")
    index.index(collection.documents())
    return RadarIndex(path, encoder)


def _claim(index: RadarIndex, collection: Collection) -> None:
    """Writes down what is indexed before the first document is stored, and refuses anything else from then on.

    A finished index must be of the same documents. An interrupted one goes on with documents of the same docnos
    (the index checks them) read from the same field, so that a bad record can be mended and the run resumed.
    """
    record = index.path / _RECORD
    content = {
        "collection": collection.name,
        "documents": collection.fingerprint(),
        "text_field": collection.text_field,
    }
    index.require_own_folder()
    if len(index) and record.exists():
        known = json.loads(record.read_text("utf-8"))
        if index.built() and known["documents"] != content["documents"]:
            raise ValueError(
                f"{index.path} is an index of other documents than those of {collection.name} (or of an older state "
                "of them): name another folder with --index, or remove this one"
            )
        if known["text_field"] != content["text_field"]:
            raise ValueError(
                f"{index.path} was begun with the text field {known['text_field']!r}, not {content['text_field']!r}: "
                "name the same field, or another folder with --index"
            )
        if index.built():
            return
    elif len(index):
        note(f"{index.path} does not say what it is an index of: taking it for {collection.name}")
    index.path.mkdir(parents=True, exist_ok=True)
    partial = record.with_name(_RECORD + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    os.replace(partial, record)


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
        instruction: for the queries; ``"auto"`` takes the dataset's own, else the one the index remembers.
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
    checkpoint = stored.checkpoint if model is None and stored else resolve(model)
    remembered = stored.instruction if stored and instruction == "auto" else ""
    encoder = Encoder(
        checkpoint,
        instruction=resolve_instruction(instruction, dataset, checkpoint) or remembered,
        max_query_tokens=stored.max_query_tokens if stored else None,
        max_document_tokens=stored.max_document_tokens if stored else None,
        device=device,
        dtype=dtype,
    )
    return RadarIndex(path, encoder)
