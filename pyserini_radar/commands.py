"""``radar pyserini``: vectors to and from Pyserini's FAISS folders."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from radar_cli import Debug, Json, framed

app = typer.Typer()
pyserini_app = typer.Typer(name="pyserini", help="Carry vectors to and from Pyserini.", no_args_is_help=True)
app.add_typer(pyserini_app)

Store = Annotated[Path, typer.Argument(help="A RadarIndex.", metavar="INDEX")]
Folder = Annotated[Path, typer.Argument(help="A FAISS folder of Pyserini's: index and docid.", metavar="FOLDER")]


@pyserini_app.command("export")
@framed
def export_(index: Store, folder: Folder, json_: Json = False, debug: Debug = False) -> str:
    """Write the vectors of an index to a new folder for Pyserini's FaissSearcher."""
    from pyserini_radar.folders import export_faiss

    return _say(export_faiss(index, folder), json_)


@pyserini_app.command("import")
@framed
def import_(
    folder: Folder,
    index: Store,
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="float16 takes half the room.")] = "float32",
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Make a new index of a folder of Pyserini's; search it with --model, since it doesn't say which made it."""
    from pyserini_radar.folders import import_faiss

    return _say(import_faiss(folder, index, dtype=dtype).path, json_)


def _say(path: Path, as_json: bool) -> str:
    return json.dumps({"path": str(path)}) if as_json else f"wrote {path}"
