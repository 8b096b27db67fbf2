"""``radar synthesize run|resume|samples|report|view|merge``."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radar_cli import Debug, Json, framed, note

if TYPE_CHECKING:
    from synthesis.engine import RunReport
    from synthesis.settings import Settings

app = typer.Typer()
synthesize = typer.Typer(help="Make training data: search solutions of problems, with theorems retrieved on the way.")
app.add_typer(synthesize, name="synthesize", no_args_is_help=True)

_EXTRA = ("aiohttp", "datasketch", "filelock", "math_verify", "openai", "yaml")

Folder = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
Set = Annotated[list[str], typer.Option("--set", help="key=value, over the settings; repeatable.")]
Shard = Annotated[str, typer.Option(help="i/n: every n-th problem from number i, 0 to n-1; for job arrays.")]
Key = Annotated[str | None, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="Sent to the servers, not stored.")]


@synthesize.command()
@framed
def run(
    output: Annotated[Path, typer.Option(help="The run's folder.", show_default=False)],
    config: Annotated[str, typer.Argument(help="A YAML file; by default the paper's settings.")] = "paper",
    problems: Annotated[Path | None, typer.Option(help="Problems with answers, JSON lines.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Theorems, JSON lines.")] = None,
    url: Annotated[list[str], typer.Option(help="Base URL of a server of the model; repeatable.")] = [],  # noqa: B006
    model: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    set_: Set = [],  # noqa: B006
    shard: Shard = "0/1",
    api_key: Key = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Search solutions of problems; a run that was stopped goes on where it was."""
    _require_extra()
    from synthesis.settings import Settings

    settings = Settings.load(config, set_)
    settings = replace(
        settings,
        problems=str(problems.absolute()) if problems else settings.problems,
        corpus=str(corpus.absolute()) if corpus else settings.corpus,
        generator=replace(
            settings.generator, urls=tuple(url) or settings.generator.urls, model=model or settings.generator.model
        ),
    )
    return _run(settings, output, shard, api_key, json_)


@synthesize.command()
@framed
def resume(
    folder: Folder,
    set_: Set = [],  # noqa: B006
    shard: Shard = "0/1",
    api_key: Key = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Go on with a run, by the settings in its folder."""
    _require_extra()
    return _run(_settings(folder, shard, set_), folder, shard, api_key, json_)


@synthesize.command()
@framed
def samples(
    folder: Folder,
    against: Annotated[list[Path], typer.Option(help="Evaluation queries to leave out; repeatable.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(help="The dataset's folder; by default samples/ in the run's.")] = None,
    set_: Set = [],  # noqa: B006
    api_key: Key = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Make training samples of a run's finished problems."""
    _require_extra()
    from synthesis.dataset import make_dataset

    settings = _settings(folder, "0/1", set_)
    if not against:
        note("no --against: the samples are not compared with any evaluation queries")
    target = output or folder / "samples"
    made = make_dataset(folder, target, settings, against=against, about=_about(settings), api_key=api_key)
    if json_:
        return json.dumps(made, indent=2)
    types = ", ".join(f"{kind} {of['samples']:,}" for kind, of in made["types"].items())
    return f"{target}: {made['samples']:,} samples ({types})"


@synthesize.command()
@framed
def report(folder: Folder, json_: Json = False, debug: Debug = False) -> str:
    """Write report.md and report.json of a run."""
    from synthesis.report import markdown, write_report
    from synthesis.run import requiring_store

    dataset = folder / "samples"
    with requiring_store(folder) as store:
        figures = write_report(
            store,
            folder,
            dataset=dataset if (dataset / "samples.json").is_file() else None,
            about=_about(_settings(folder, "0/1")),
        )
    return json.dumps(figures, indent=2) if json_ else markdown(figures)


@synthesize.command()
@framed
def view(
    folder: Folder,
    problem: Annotated[
        list[str], typer.Option(help="Id of a problem to show, the others left as they are; repeatable.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="Show the first so many.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where the pages go; by default views/ in the run's.")] = None,
    debug: Debug = False,
) -> str:
    """Write pages that show a run and its trees, to be opened in a browser."""
    from synthesis.run import requiring_store
    from synthesis.viewer import write_views

    dataset = folder / "samples" / "train.jsonl"
    with requiring_store(folder) as store:
        if absent := [repr(name) for name in problem if not store.get(name)]:
            raise ValueError(
                f"{folder} holds no finished problem {', '.join(absent)}: views/index.html lists their ids"
            )
        records: Iterator[Any] = (record for name in problem for record in store.get(name)) if problem else iter(store)
        page = write_views(
            islice(records, limit),
            output or folder / "views",
            samples=dataset if dataset.is_file() else None,
            title=folder.resolve().name,
            is_part=bool(problem),
        )
    return str(page)


@synthesize.command()
@framed
def merge(
    folder: Folder,
    shards: Annotated[list[Path], typer.Argument(help="Folders of shards; by default shard-*-of-* in the run's.")] = [],  # noqa: B006
    debug: Debug = False,
) -> str:
    """Bring the shards of a run together."""
    from synthesis.run import merge as bring_together

    return f"{folder}: {bring_together(folder, shards):,} problems"


def _run(settings: "Settings", output: Path, shard: str, api_key: str | None, json_: bool) -> str:
    from synthesis.run import synthesize as go
    from synthesis.settings import SettingsError

    for name in ("problems", "corpus"):
        if getattr(settings, name) is None:
            raise SettingsError(f"no {name}: give the file by --{name}, or as {name} in the settings")
    assert settings.problems is not None and settings.corpus is not None
    done = go(settings.problems, settings.corpus, output, settings=settings, shard=_shard(shard), api_key=api_key)
    return json.dumps(asdict(done) | {"left": done.left}, indent=2) if json_ else _summary(done, output)


def _summary(done: "RunReport", output: Path) -> str:
    from synthesis.progress import duration

    stored = done.kept + done.finished
    rewarded = f", {100 * done.solved / stored:.1f}% rewarded" if stored else ""
    left = f"; {done.left:,} left ({done.ended}): radar synthesize resume {output}" if done.left else ""
    return f"{output}: {stored:,} of {done.total:,} problems{rewarded}, {duration(done.seconds)}{left}"


def _settings(folder: Path, shard: str, overrides: list[str] | None = None) -> "Settings":
    from synthesis.run import SETTINGS_FILE, shard_folder
    from synthesis.settings import Settings, SettingsError

    place = shard_folder(folder, _shard(shard))
    if not (place / SETTINGS_FILE).is_file():
        raise SettingsError(f"{place} holds no run: begin one by radar synthesize run, or merge its shards first")
    return Settings.load(place / SETTINGS_FILE, overrides or [])


def _about(settings: "Settings") -> dict[str, str]:
    retriever = settings.retriever
    about = {
        "Language model": settings.generator.model,
        "Retriever": retriever.kind if retriever.model is None else f"{retriever.kind} ({retriever.model})",
        "Problems": Path(settings.problems).name if settings.problems else "",
        "Theorems": Path(settings.corpus).name if settings.corpus else "",
    }
    return {name: value for name, value in about.items() if value}


def _shard(text: str) -> tuple[int, int]:
    index, slash, shards = text.partition("/")
    if not (slash and index.isdecimal() and shards.isdecimal() and int(index) < int(shards)):
        raise ValueError(f"--shard {text}: write i/n with i from 0 to n-1, such as 0/16 for the first of sixteen")
    return int(index), int(shards)


def _require_extra() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} missing: pip install 'pyterrier-radar[synthesis]'")
