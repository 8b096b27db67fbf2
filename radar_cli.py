"""The ``radar`` command, and what every subcommand has around it.

Every room registers a Typer application under the entry point group ``radar.commands``; this module imports none of
them by name, so the rooms stay independent of each other. Results go to stdout, all else to stderr, errors in one line.
"""

import contextlib
import functools
import io
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

BAD_INPUT = (ValueError, OSError, ImportError, NotImplementedError, sqlite3.Error)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel="Other")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, everything else on stderr.")]


def framed(body: Callable[..., str]) -> Callable[..., None]:
    """Makes a subcommand of a function that returns the text for stdout.

    Whatever libraries print on the way goes to stderr. Bad input ends with one line on stderr and exit code
    2, a defect of ours with one line and exit code 1; ``--debug`` shows the traceback of both.
    """

    @functools.wraps(body)
    def command(**arguments: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                text = body(**arguments)
            typer.echo(text.rstrip("\n"))
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if arguments.get("debug"):
                traceback.print_exc()
            is_input = isinstance(error, BAD_INPUT)
            hint = "" if is_input else " (unexpected: run again with --debug, and please report it)"
            typer.echo(f"radar: {describe(error)}{hint}", err=True)
            raise typer.Exit(2 if is_input else 1) from error

    return command


def describe(error: Exception) -> str:
    """Says an error in one line."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{named}{error.strerror}"
    text = " ".join(". ".join([str(error), *getattr(error, "__notes__", [])]).split())
    return text if isinstance(error, BAD_INPUT) and text else f"{type(error).__name__}: {text}"


def note(message: str) -> None:
    """Tells the user something on stderr."""
    typer.echo(message, err=True)


def render(table: "Table") -> str:
    """Lays a table out as text, in colour where stdout is a terminal."""
    from rich.console import Console

    target = io.StringIO()
    is_terminal = sys.__stdout__ is not None and sys.__stdout__.isatty()
    # no markup: "[faiss]" and a document's "[0, 1]" are text
    console = Console(
        file=target,
        force_terminal=is_terminal,
        width=shutil.get_terminal_size((120, 24)).columns,
        markup=False,
        highlight=False,
        emoji=False,
    )
    console.print(table)
    return target.getvalue()


def build_app() -> typer.Typer:
    """Collects the commands of every installed room into one application."""
    app = typer.Typer(
        name="radar",
        help="Reasoning-aware dense retrieval (RaDeR) for information-retrieval experiments.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for entry_point in sorted(entry_points(group="radar.commands"), key=lambda e: e.name):
        app.add_typer(entry_point.load())
    return app


def main() -> None:
    """Runs the ``radar`` command line."""
    build_app()()


if __name__ == "__main__":
    main()
