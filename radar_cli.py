"""The ``radar`` command: it finds the subcommands that the installed rooms offer and runs one.

Every room registers a Typer application under the entry point group ``radar.commands``; this module
imports none of them by name, so the rooms stay independent of each other.
"""

from importlib.metadata import entry_points

import typer


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
