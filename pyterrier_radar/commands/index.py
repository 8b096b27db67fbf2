"""``radar index``: builds a dense index."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pyterrier_radar.commands import _options as option
from radar_cli import Debug, Json, framed


@framed
def index(
    index: Annotated[Path, typer.Option(help="Folder to build the index in.", show_default=False)],
    dataset: option.Dataset = None,
    docs: option.Docs = None,
    model: option.Model = None,
    text_field: option.TextField = None,
    empty_text: option.EmptyTextOption = "error",
    store_dtype: Annotated[option.StoreDtype, typer.Option(help="Precision of the stored vectors.")] = "float16",
    device: option.Device = None,
    dtype: option.Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Build a dense index of a collection; a run that was stopped goes on where it was."""
    from pyterrier_radar import RadarBiEncoder
    from pyterrier_radar.commands._collection import open_collection
    from pyterrier_radar.commands._dense import open_dense_index
    from torch_radar.checkpoints import SMALL_DEFAULT

    collection = open_collection(dataset, docs, text_field=text_field, empty_text=empty_text)
    encoder = RadarBiEncoder(model or SMALL_DEFAULT, device=device, dtype=dtype, verbose=True)
    built = open_dense_index(collection, encoder, index, dtype=store_dtype)
    facts = {
        "index": str(index),
        "collection": collection.name,
        "documents": len(built),
        "model": encoder.encoder.checkpoint.name,
        "device": str(encoder.encoder.device),
    }
    if json_:
        return json.dumps(facts, indent=2)
    return f"{facts['documents']} documents of {collection.name} indexed by {facts['model']}: {index}"
