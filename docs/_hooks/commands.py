"""MkDocs hook: every subcommand of ``radar`` with its options, read from the Typer application.

A page asks for them by ``<!-- commands: radar -->`` on a line of its own.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import typer

from radar_cli import build_app

_ASKED = re.compile(r"^<!-- commands: radar -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the commands where the page asks for them."""
    return _ASKED.sub(lambda _: all_commands(), markdown) if _ASKED.search(markdown) else markdown


def all_commands() -> str:
    """All subcommands, each with its help and a table of its arguments and options."""
    root = typer.main.get_command(build_app())
    return "\n\n".join(_described(path, command) for path, command in leaves(root, ("radar",)))


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walks a command to the subcommands that do something."""
    if not getattr(command, "commands", None):
        yield path, command
        return
    for name, sub in sorted(command.commands.items()):
        yield from leaves(sub, (*path, name))


def _described(path: tuple[str, ...], command: Any) -> str:
    arguments = [_usage(p) for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([*path, *arguments, "[OPTIONS]"])
    rows = [f"| `{', '.join(sorted(p.opts, reverse=True))}` | {_cell(p)} |" for p in options]
    table = ["| Option | |", "| --- | --- |", *rows] if rows else []
    help_ = re.sub(r"[\x08\x0c]", "", command.help or "").strip()
    return "\n".join([f"## {' '.join(path)}", "", "```text", usage, "```", "", help_, "", *table])


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _cell(option: Any) -> str:
    text = (option.help or "").replace("|", "\\|").replace("<", "&lt;")
    default = option.default
    is_shown = option.show_default and not callable(default) and default not in (None, False, "", (), [])
    values = _choices(option)
    parts = [text]
    if values:
        parts.append("One of " + ", ".join(f"`{value}`" for value in values) + ".")
    if option.required:
        parts.append("Required.")
    elif is_shown:
        parts.append(f"Default: `{getattr(default, 'value', default)}`.")
    return " ".join(part for part in parts if part)


def _choices(option: Any) -> list[str]:
    """The values an option may have; newer versions of typer know them by its annotation, older ones by its type."""
    annotation = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    literal = get_args(annotation) if get_origin(annotation) is Literal else ()
    return [str(value) for value in literal or getattr(getattr(option, "type", None), "choices", ())]
