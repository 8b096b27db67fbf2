"""What a run was begun with: its recipe, and digests of all that it names, so that it goes on with nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch_radar.checkpoints import RADAR_JSON
from torch_radar.files import replacing
from torch_radar.loading import weights_digest
from training.data import DataError
from training.recipe import Recipe
from training.trainer import complete_checkpoints

RECIPE_FILE = "recipe.yaml"
DATA_FILE = "data.json"


def begin(recipe: Recipe, output: Path, recipe_file: str = RECIPE_FILE) -> None:
    """Writes the recipe into a run's folder, or checks that it and its data are what the run was begun with.

    Raises:
        DataError: If they are not.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / recipe_file
    if not path.is_file():
        with replacing(path) as aside:
            aside.write_text(recipe.to_yaml(), encoding="utf-8")
    elif Recipe.load(path) != recipe:
        raise DataError(f"{output} holds a run of another recipe: give another folder, or start that recipe again")
    trained = (output / RADAR_JSON).is_file() or complete_checkpoints(output)
    if trained and (output / DATA_FILE).is_file():
        begun_with = json.loads((output / DATA_FILE).read_text(encoding="utf-8"))
        # A finished run can do without its data, and what is missing otherwise is named by its reader.
        changed = [name for name, digest in _digests(recipe).items() if begun_with.get(name, digest) != digest]
        if changed:
            raise DataError(
                f"{output} holds a run on other contents of {', '.join(changed)}: give another folder, or bring those "
                "back"
            )


def note_data(recipe: Recipe, output: Path) -> None:
    """Keeps digests of what a new run is made from: its data, its evaluation, and base and teacher that are folders."""
    if not complete_checkpoints(output):
        with replacing(output / DATA_FILE) as aside:
            aside.write_text(json.dumps(_digests(recipe), indent=2) + "\n", encoding="utf-8")


def _digests(recipe: Recipe) -> dict[str, str]:
    names = [name for source in recipe.data for name in (source.path, *source.documents)]
    if (on := recipe.evaluation) is not None:
        names += [*on.documents, on.queries, on.qrels, *([on.candidates] if on.candidates else [])]
    models = [recipe.base.name]
    if recipe.teacher is not None:
        models.append(recipe.teacher.name)
        names.append(str(Path(recipe.teacher.name).expanduser() / RADAR_JSON))  # the text form it reads queries in
    folders = {name: Path(name).expanduser() for name in models}
    digests = {}
    for path in (Path(name) for name in names if Path(name).is_file()):
        with path.open("rb") as file:
            digests[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests | {name: weights_digest(folder) for name, folder in folders.items() if folder.is_dir()}
