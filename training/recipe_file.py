"""From a recipe's file and its overrides to plain values, and back from a key to the place it was read.

Nothing here knows what a recipe holds, but for which keys are paths.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from training.settings import RecipeError

_PATHS = frozenset({"path", "documents", "queries", "qrels", "candidates"})
# A base model's name is a folder only if it says so: "Qwen/Qwen2.5-7B-Instruct" looks like a relative path.
_FOLDER_MARKS = ("./", "../", "~/")


def read_recipe(path: Path, folder: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Callable[[str], str]]:
    """Reads a file and applies overrides.

    Args:
        path: The YAML file.
        folder: What its relative paths are relative to; those of overrides are relative to the working folder.
        overrides: ``"key=value"`` strings.

    Returns:
        The values, with paths absolute, and a function that says where a dotted key was read.

    Raises:
        RecipeError: If the file is unreadable, is not a mapping or repeats a key, or an override fits nowhere.
    """
    values, lines = _parsed(path)
    origins = {"": str(path)}
    for key, line in lines:
        origin = f"{path}, line {line}"
        if key in origins:
            raise RecipeError(f"given twice, before in {origins[key]}", key, origin)
        origins[key] = origin
    if not isinstance(values, dict):
        raise RecipeError("must be a mapping of keys to values", origin=str(path))
    values = _absolute(values, folder)
    for override in overrides:
        key = _apply(values, override)
        origins = {k: o for k, o in origins.items() if not f"{k}.".startswith(f"{key}.")}
        origins[key] = f"--set {override}"

    def origin_of(key: str) -> str:
        while key not in origins:
            key = key.rpartition(".")[0]
        return origins[key]

    return values, origin_of


def _parsed(path: Path) -> tuple[Any, list[tuple[str, int]]]:
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.safe_load(text), list(_lines(yaml.compose(text, Loader=yaml.SafeLoader)))
    except (OSError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"not readable as YAML ({' '.join(str(error).split())})", origin=str(path)) from error


def _lines(node: yaml.Node | None, key: str = "", ancestors: tuple[int, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yields every dotted key of a document with its line; a key given twice comes twice."""
    if id(node) in ancestors:
        raise ValueError("an alias that contains itself")
    children: list[tuple[str, int, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(str(name.value), name.start_mark.line, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(str(index), item.start_mark.line, item) for index, item in enumerate(node.value)]
    for name, line, child in children:
        full = f"{key}.{name}" if key else name
        yield full, line + 1
        yield from _lines(child, full, (*ancestors, id(node)))


def _absolute(value: Any, folder: Path, key: str = "") -> Any:
    """Returns the value with every path in it absolute."""
    if isinstance(value, dict):
        return {name: _absolute(item, folder, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, folder, key) for item in value]
    is_path = key in _PATHS or key == "name" and str(value).startswith(_FOLDER_MARKS)
    if is_path and isinstance(value, str) and value and not os.path.isabs(value):
        return os.path.abspath(folder / Path(value).expanduser())
    return value


def _apply(values: dict[str, Any], override: str) -> str:
    """Puts an override into the values and returns its key."""
    origin = f"--set {override}"
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise RecipeError("must be key=value, as in lora.rank=8", origin=origin)
    # Items of a list of paths are paths: their key is the list's.
    name = next((part for part in reversed(key.split(".")) if not part.isdecimal()), "")
    try:
        value = _absolute(yaml.safe_load(text), Path.cwd(), name)
    except (RecursionError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(f"value not readable as YAML ({' '.join(str(error).split())})", key, origin) from error
    *parents, last = key.split(".")
    container: Any = values
    for depth, part in enumerate(parents, start=1):
        place: Any = _place(container, part, ".".join(parents[: depth - 1]), origin)
        if isinstance(container, dict) and container.get(part) is None:
            container[part] = {}
        container = container[place]
    container[_place(container, last, ".".join(parents), origin)] = value
    return key


def _place(container: Any, part: str, key: str, origin: str) -> str | int:
    """Returns what a part of a dotted key stands for in its container: a name, or the number of an item."""
    if isinstance(container, dict):
        return part
    if not isinstance(container, list):
        raise RecipeError(f"is {container!r}, with no keys below it", key, origin)
    if not part.isdecimal() or int(part) >= len(container):
        raise RecipeError(
            f"has {len(container)} items, and {part!r} is none of them: give a number from 0", key, origin
        )
    return int(part)
