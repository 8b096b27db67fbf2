"""A folder of results as mteb writes it, read back and checked: ``results/<model>/<revision>/<task>.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mteb.results import TaskResult

META_FILE = "model_meta.json"


@dataclass(frozen=True)
class ModelResults:
    """The results of one model at one revision.

    Attributes:
        folder: Where they are.
        name: Name of the model.
        revision: Its revision.
        tasks: The results, by name of the task.
        is_experiment: Whether it ran with settings of its own, which mteb keeps in a folder named experiments.
    """

    folder: Path
    name: str
    revision: str
    tasks: dict[str, TaskResult]
    is_experiment: bool = False


def read_results(folder: str | Path) -> list[ModelResults]:
    """Reads every model's results below a folder, such as one that ``radar mteb run`` wrote or the results repository.

    Raises:
        FileNotFoundError: There are none.
        ValueError: A file is half-written, or its folder is named after another revision than it says.
    """
    folder = Path(folder)
    found = [_read(path) for path in _revisions(folder)]
    found = [results for results in found if results.tasks]
    if not found:
        raise FileNotFoundError(
            f"there are no results of mteb below {folder}: radar mteb run --output {folder} makes some"
        )
    return found


def choose(results: list[ModelResults], model: str | None, revision: str | None) -> ModelResults:
    """Returns the results of a model at a revision; each may be left out where there is one.

    Raises:
        ValueError: There is none such, or more than one; the message lists them.
    """
    fitting = [r for r in results if model in (None, r.name) and revision in (None, r.revision)]
    if len(fitting) == 1:
        return fitting[0]
    there = "; ".join(f"{r.name} at {r.revision}" for r in fitting or results)
    raise ValueError(f"{'more than one' if fitting else 'no'} model fits: name --model and --revision of: {there}")


def _revisions(folder: Path) -> Iterator[Path]:
    """The folders that hold model_meta.json."""
    for meta in sorted(folder.rglob(META_FILE)):
        yield meta.parent


def _read(folder: Path) -> ModelResults:
    meta = _json(folder / META_FILE)
    name, revision = meta.get("name"), meta.get("revision") or folder.name
    is_experiment = folder.parent.name == "experiments"
    if not is_experiment and revision != folder.name:
        raise ValueError(
            f"{folder} is named after another revision than its {META_FILE} says ({revision}): results of two "
            "revisions were mixed; move each to the folder of its own, or run again"
        )
    tasks = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != META_FILE:
            result = read_task_result(path)
            tasks[result.task_name] = result
    if is_experiment:
        name = f"{name} ({folder.name})"
    return ModelResults(folder, str(name), str(revision), tasks, is_experiment)


def read_task_result(path: Path) -> TaskResult:
    """Reads a result.

    Raises:
        ValueError: It is half-written or no result.
    """
    try:
        return TaskResult.from_disk(path)
    except Exception as error:  # pydantic's, json's and mteb's own; all mean the same to a user
        raise ValueError(
            f"{path} is no result of mteb ({type(error).__name__}): remove it and run its task again"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is half-written or no JSON: remove it and run again") from error
