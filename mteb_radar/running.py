"""Tasks through a model, one after the other: resumed where they stopped, with rankings kept beside results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.cache import ResultCache
from mteb.results import TaskResult

from mteb_radar.facts import with_settings
from mteb_radar.predictions import RankingFiles, Rankings, as_reranking, folder_digest
from mteb_radar.reranker import RadarReranker, require_candidates
from mteb_radar.results import read_task_result
from mteb_radar.search import RadarSearch

Model = RadarSearch | RadarReranker | RankingFiles

PREDICTIONS, VECTORS = "predictions", "vectors"


def run_tasks(
    model: Model, tasks: Sequence[AbsTask], output: Path, *, progress: Callable[[str], None] = print
) -> list[TaskResult]:
    """Evaluates a model on tasks; those with a result in the folder are not run again.

    Results are in ``output/results/<model>/<revision>/<task>.json`` as soon as a task ends, rankings in
    ``output/predictions/<model>/<revision>/``.

    Args:
        model: See :func:`mteb_radar.load_model`.
        tasks: What to run.
        output: Folder of the results.
        progress: Told a line for every task that ends.

    Raises:
        ValueError: A result in the folder is of another version of its task's data, or a cross-encoder meets a
            retrieval task.
    """
    cache = ResultCache(output)
    for task in tasks:
        if isinstance(model, RadarReranker):
            require_candidates(task.metadata)
        _done(cache, model, task)
    return [_run(model, task, cache, predictions_folder(output, model), progress) for task in tasks]


def rerank_tasks(
    model: RadarReranker,
    tasks: Sequence[AbsTaskRetrieval],
    rankings: Path,
    output: Path,
    *,
    top_k: int = 100,
    progress: Callable[[str], None] = print,
) -> list[TaskResult]:
    """Reranks the first documents of rankings on disk and evaluates what comes out.

    The first stage (its name and a digest of its rankings) and its depth are part of the results' place, so that two
    of them are never taken for one another.

    Args:
        model: A cross-encoder.
        tasks: Retrieval tasks.
        rankings: Folder with a file for each; see :mod:`mteb_radar.predictions`.
        output: Folder of the results.
        top_k: Documents of each query.
        progress: Told a line for every task that ends.

    Raises:
        FileNotFoundError: A task has no rankings.
        ValueError: Rankings are half-written or of another version of the task.
    """
    read = [Rankings.find(rankings, task.metadata.name) for task in tasks]  # all of them, before anything is scored
    cache = ResultCache(output)
    meta, digest = model.mteb_model_meta, folder_digest(rankings)
    results = []
    for task, ranking in zip(tasks, read, strict=True):
        first = f"{ranking.name}@{digest}".replace("/", "__")
        model.mteb_model_meta = with_settings(meta, {"first_stage": first, "top_k": top_k})
        try:
            if not _is_whole(_done(cache, model, task), task):
                as_reranking(task, ranking, top_k)
            results.append(_run(model, task, cache, predictions_folder(output, model), progress))
        finally:
            model.mteb_model_meta = meta
    return results


def predictions_folder(output: Path, model: Any) -> Path:
    """Returns where the rankings of a model are kept."""
    meta = model.mteb_model_meta
    folder = output / PREDICTIONS / meta.model_name_as_path() / str(meta.revision)
    return folder / meta.experiment_name if meta.experiment_name else folder


def _run(
    model: Model, task: AbsTask, cache: ResultCache, predictions: Path, progress: Callable[[str], None]
) -> TaskResult:
    done = _done(cache, model, task)
    was_there = _is_whole(done, task)
    rankings = predictions / task.prediction_file_name
    if done is None:
        # mteb would read a file that a killed run half-wrote, and fail after the search
        rankings.unlink(missing_ok=True)
    elif not was_there and rankings.is_file():
        Rankings(rankings)
    (result,) = mteb.evaluate(
        model,
        task,
        cache=cache,
        co2_tracker=False,
        overwrite_strategy="only-missing",
        prediction_folder=predictions,
        encode_kwargs={"batch_size": 32, "show_progress_bar": False},
        show_progress_bar=False,
    ).task_results
    again = " (was there)" if was_there else ""
    progress(f"{task.metadata.name}: {task.metadata.main_score} {float(result.get_score()):.4f}{again}")
    return result


def _done(cache: ResultCache, model: Model, task: AbsTask) -> TaskResult | None:
    """The result that is there; mteb takes a whole one for a task whose data has changed since."""
    path = cache.get_task_result_path(task.metadata.name, model.mteb_model_meta)
    if not path.is_file():
        return None
    done = read_task_result(path)
    if done.dataset_revision != task.metadata.revision:
        raise ValueError(
            f"{path} is of revision {done.dataset_revision} of its data, and the task is at {task.metadata.revision}: "
            "choose another --output, or remove that file"
        )
    return done


def _is_whole(done: TaskResult | None, task: AbsTask) -> bool:
    return done is not None and not done.get_missing_evaluations(task)
