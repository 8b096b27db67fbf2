"""``radar mteb``: MTEB's benchmarks with RaDeR's models.

mteb is imported when a command runs, so that ``radar --help`` answers at once.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radar_cli import Debug, Json, framed, note, render

if TYPE_CHECKING:
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.results import TaskResult

app = typer.Typer()
mteb_app = typer.Typer(name="mteb", help="Run, rerank, report and submit MTEB's benchmarks.", no_args_is_help=True)
app.add_typer(mteb_app)


def _one(device: str | None) -> str | None:
    if device is not None and "," in device:
        raise typer.BadParameter("this runs on one device: name one")
    return device


Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="A Raderspace name, a folder, else a small default.", show_default=False),
]
Revision = Annotated[str | None, typer.Option(help="Hub commit of the weights.", show_default=False)]
Benchmarks = Annotated[
    list[str], typer.Option("--benchmark", "-b", help="Such as 'BRIGHT(v1.1)', 'BRIGHT(v1.1).gpt4_reason', RAR-b.")
]
Tasks = Annotated[
    list[str], typer.Option("--task", "-t", help="Such as BrightPonyRetrieval, BrightPonyRetrieval.gpt4_reason.")
]
Local = Annotated[
    list[Path], typer.Option("--local", help="Your own task: a folder in BRIGHT's shape, or a CSV in RAR-b's.")
]
Splits = Annotated[list[str], typer.Option("--split", help="Of the tasks' splits, the ones to run; else all.")]
Output = Annotated[Path, typer.Option(help="Folder of results, rankings and vectors.")]
Devices = Annotated[
    str | None, typer.Option("--device", help="cuda:0, or cuda:0,cuda:1 for one process each.", show_default=False)
]
Device = Annotated[str | None, typer.Option(help="Such as cuda:0; one.", callback=_one, show_default=False)]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; else what suits the device.", show_default=False)
]
OUTPUT = Path("mteb-results")


@mteb_app.command()
@framed
def run(
    model: Model = None,
    benchmark: Benchmarks = [],  # noqa: B006
    task: Tasks = [],  # noqa: B006
    local: Local = [],  # noqa: B006
    split: Splits = [],  # noqa: B006
    output: Output = OUTPUT,
    revision: Revision = None,
    device: Devices = None,
    dtype: Dtype = None,
    instruction: Annotated[
        str | None, typer.Option(help="For every task, instead of its own; '' for none.", show_default=False)
    ] = None,
    rankings: Annotated[
        Path | None,
        typer.Option(help="Measure the rankings in this folder instead of a model.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call those rankings.")] = "local/rankings",
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Run a model on benchmarks or tasks; what has a result in the output is not run again.

    Without --model it is a small default, and the first line says so.
    """
    _require(model, rankings)
    from mteb_radar import RankingFiles, load_model
    from mteb_radar.reranker import require_candidates
    from mteb_radar.running import VECTORS, run_tasks
    from torch_radar.checkpoints import resolve

    chosen = _tasks(benchmark, task, local, split)
    if rankings is not None:
        return _as_text(chosen, run_tasks(RankingFiles(rankings, name), chosen, output, progress=note), json_)
    if resolve(model).kind == "reranker":  # said before its weights are fetched
        for each in chosen:
            require_candidates(each.metadata)
        if instruction is not None:
            raise ValueError("a reranker reads no instruction: leave --instruction out")
    settings: dict[str, Any] = {"dtype": dtype, "progress": True}
    if instruction is not None:
        settings["instruction"] = instruction
    devices = tuple(device.split(",")) if device else ()
    loaded = load_model(model, revision, folder=output / VECTORS, devices=devices, **settings)
    note(f"model: {loaded.mteb_model_meta.name} at {loaded.mteb_model_meta.revision}")
    return _as_text(chosen, run_tasks(loaded, chosen, output, progress=note), json_)


@mteb_app.command()
@framed
def rerank(
    model: Annotated[str, typer.Option("--model", "-m", help="Reranker: a Raderspace name or a folder.")],
    rankings: Annotated[Path, typer.Option(help="Folder with the first stage's rankings, from radar mteb run.")],
    benchmark: Benchmarks = [],  # noqa: B006
    task: Tasks = [],  # noqa: B006
    local: Local = [],  # noqa: B006
    split: Splits = [],  # noqa: B006
    top_k: Annotated[int, typer.Option(min=1, help="Documents of each query to rerank.")] = 100,
    output: Output = OUTPUT,
    revision: Revision = None,
    device: Device = None,
    dtype: Dtype = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Rerank the first documents of a retriever's rankings: two-stage retrieval, on BRIGHT too."""
    _require(model, None)
    from mteb_radar import RadarReranker
    from mteb_radar.running import rerank_tasks

    chosen = _tasks(benchmark, task, local, split)
    loaded = RadarReranker(model, revision, device=device, dtype=dtype, progress=True)
    note(f"model: {loaded.mteb_model_meta.name} at {loaded.mteb_model_meta.revision}")
    return _as_text(chosen, rerank_tasks(loaded, chosen, rankings, output, top_k=top_k, progress=note), json_)


@mteb_app.command()
@framed
def report(
    results: Annotated[Path, typer.Argument(help="Output of radar mteb run.", show_default=False)],
    peer: Annotated[
        list[Path], typer.Option("--peer", help="Other models' results: a folder of the results repository.")
    ] = [],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option(help="Folder for report.csv and report.png.", show_default=False)
    ] = None,
    json_: Json = False,
    debug: Debug = False,
) -> str:
    """Compare results with the paper's rows and with other models' results."""
    _require(None, None)
    from mteb_radar import report as reporting
    from mteb_radar.results import read_results

    peers = [found for folder in peer for found in read_results(folder)]
    tasks, found = reporting.lines(read_results(results), peers)
    if output is not None:
        reporting.write_csv(tasks, found, output / "report.csv")
        reporting.draw(tasks, found, output / "report.png")
        note(f"written: {output / 'report.csv'}, {output / 'report.png'}")
    if json_:
        return json.dumps([{"system": x.system, "source": x.source, "scores": dict(x.scores)} for x in found], indent=2)
    return render(reporting.as_table(tasks, found))


@mteb_app.command("prepare-submission")
@framed
def prepare_submission(
    results: Annotated[Path, typer.Argument(help="Output of radar mteb run.", show_default=False)],
    output: Annotated[Path, typer.Option(help="Folder for the tree.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="Whose results, where there are several.")] = None,
    revision: Annotated[str | None, typer.Option(help="Which revision's, where there are several.")] = None,
    debug: Debug = False,
) -> str:
    """Write the tree that MTEB's results repository takes, if it would; say what a person must still do."""
    _require(None, None)
    from mteb_radar.results import choose, read_results
    from mteb_radar.submission import prepare

    made = prepare(choose(read_results(results), model, revision), output)
    if made.left_out:
        note(f"left out, as mteb has no such task: {', '.join(made.left_out)}")
    todo = "".join(f"\n- {step}" for step in made.left_to_do)
    return f"{made.folder}: {len(made.files)} files\n\nLeft to do:{todo}"


@mteb_app.command()
@framed
def mock(
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    debug: Debug = False,
) -> str:
    """Check a model on mteb's mock tasks, which are tiny and need no network."""
    _require(model, None)
    import mteb
    from mteb.results import TaskResult

    from mteb_radar import load_model

    ran = mteb.mock_run(load_model(model, device=device, dtype=dtype))
    status = {name: outcome for name, outcome in ran.items() if outcome is not None}
    failed = {name: outcome for name, outcome in status.items() if not isinstance(outcome, TaskResult)}
    if failed:
        first, outcome = next(iter(failed.items()))
        raise ValueError(f"{len(failed)} of {len(status)} mock tasks failed: {first}: {outcome}")
    return f"{ran.model_name}: {len(status)}/{len(status)} mock tasks passed"


@mteb_app.command(
    "cli",  # --help too is for mteb
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def cli(context: typer.Context) -> None:
    """Run mteb's own command line, with RaDeR's models in its registry: radar mteb cli available-tasks."""
    _require(None, None)
    from mteb.cli import main

    from mteb_radar import register

    register()
    sys.argv = ["mteb", *context.args]
    main()


def _require(model: str | None, rankings: Path | None) -> None:
    """Fails at once, before mteb is imported: that takes seconds."""
    from mteb_radar import require_mteb
    from torch_radar.checkpoints import resolve

    require_mteb()
    if model is not None and rankings is not None:
        raise ValueError("--rankings are measured instead of a model: leave --model out")
    if model is not None:
        resolve(model)


def _tasks(benchmarks: list[str], names: list[str], local: list[Path], splits: list[str]) -> "list[AbsTaskRetrieval]":
    """The tasks that were asked for, each once."""
    from mteb_radar.local import choice_task, local_benchmark
    from mteb_radar.tasks import find_benchmark, find_task, those_with_splits, with_splits

    found: list[Any] = []
    for name in benchmarks:
        found += those_with_splits(find_benchmark(name).tasks, splits)
    found += [with_splits(find_task(name), splits) for name in names]
    for path in local:
        tasks = [choice_task(path)] if path.suffix == ".csv" else local_benchmark(path).tasks
        found += those_with_splits(tasks, splits)
    if not found:
        raise ValueError("nothing to run: name a --benchmark, a --task or a --local folder")
    if twice := {task.metadata.name for task in found if sum(t.metadata.name == task.metadata.name for t in found) > 1}:
        raise ValueError(f"{min(twice)} is asked for twice: name it once")
    return found


def _as_text(tasks: "list[AbsTaskRetrieval]", results: "list[TaskResult]", as_json: bool) -> str:
    """The main scores, and their mean for each measure."""
    scores = {result.task_name: float(result.get_score()) for result in results}
    if as_json:
        return json.dumps(scores, indent=2)
    lines = dict(scores)
    for measure in sorted({task.metadata.main_score for task in tasks}):
        values = [scores[task.metadata.name] for task in tasks if task.metadata.main_score == measure]
        lines[f"mean {measure}"] = sum(values) / len(values)
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {100 * score:6.2f}" for name, score in lines.items())
