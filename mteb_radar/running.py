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

from mteb_radar.predictions import RankingFiles, Rankings, as_reranking
from mteb_radar.reranker import RadarReranker
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
        _refuse_whole_corpus(model, task)
        _require_same_data(cache, model, task)
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

    The first stage and its depth are part of the results' place, so that two of them are never taken for one another.

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
    meta = model.mteb_model_meta
    results = []
    for task, ranking in zip(tasks, read, strict=True):
        first = f"{ranking.maker['model_name']}@{ranking.maker['revision']}".replace("/", "__")
        stage = dict(meta.experiment_kwargs or {}) | {"first_stage": first, "top_k": top_k}
        model.mteb_model_meta = meta.model_copy(update={"experiment_kwargs": stage})
        try:
            _require_same_data(cache, model, task)
            folder = predictions_folder(output, model)
            results.append(_run(model, as_reranking(task, ranking, top_k), cache, folder, progress))
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
    done = cache.load_task_result(task.metadata.name, model.mteb_model_meta)
    if done is None:
        # mteb would read a file that a killed run half-wrote, and fail after the search
        (predictions / task.prediction_file_name).unlink(missing_ok=True)
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
    again = "" if done is None else " (was there)"
    progress(f"{task.metadata.name}: {task.metadata.main_score} {float(result.get_score()):.4f}{again}")
    return result


def _refuse_whole_corpus(model: Model, task: AbsTask) -> None:
    if isinstance(model, RadarReranker) and task.metadata.type == "Retrieval":
        raise ValueError(
            f"{model.mteb_model_meta.name} is a cross-encoder and {task.metadata.name} a retrieval task: it would "
            "read the corpus once for each query. Rerank a retriever's rankings instead: radar mteb rerank"
        )


def _require_same_data(cache: ResultCache, model: Model, task: AbsTask) -> None:
    """Mteb takes a complete result for a task whose data has changed since."""
    done = cache.load_task_result(task.metadata.name, model.mteb_model_meta)
    if done is not None and done.dataset_revision != task.metadata.revision:
        path = cache.get_task_result_path(task.metadata.name, model.mteb_model_meta)
        raise ValueError(
            f"{path} is of revision {done.dataset_revision} of its data, and the task is at {task.metadata.revision}: "
            "choose another --output, or remove that file"
        )
