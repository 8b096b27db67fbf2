"""From a recipe to a run folder: everything put together, in the order it happens."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset

from torch_radar.checkpoints import Checkpoint, save_radar_json
from torch_radar.loading import LoadedModel, choose_device, choose_dtype, load
from torch_radar.templates import PAIR_TEMPLATES, TEXT_TEMPLATES, token_ids
from training.collator import RerankerCollator, RetrieverCollator
from training.data import DataError, Documents, TrainingSet, concatenate, read_examples, read_tevatron
from training.evaluation import RankingEvaluator, Run
from training.losses import GroupCrossEntropy, InfoNCE
from training.model import TextModel, lora_config, make_trainable, save_adapter
from training.plan import plan_rows
from training.plots import plot_metrics
from training.recipe import Evaluation, Recipe
from training.trainer import MetricsLog, complete_checkpoints, trainer_for

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.jsonl"
_SAMPLE = 2000


def train(recipe: Recipe, output: Path) -> Path:
    """Trains a checkpoint, or goes on with a run that was stopped.

    Args:
        recipe: What to do.
        output: The run's folder, made if absent. If it holds a run of the same recipe, that run is resumed from its
            newest complete checkpoint and ends with the weights it would have had without the stop.

    Returns:
        ``output``, which ends with the trained adapter or weights, ``radar.json``, ``recipe.yaml``,
        ``metrics.jsonl`` and ``metrics.png``.

    Raises:
        RecipeError, DataError, CheckpointError: Before any step, if recipe, data or base are wrong.
        TrainingError: If the loss is not finite or a checkpoint cannot be saved.
    """
    _begin(recipe, output)
    loaded, checkpoint = load_base(recipe)
    training_set, weights, sources = read_data(recipe, output / "cache")
    _warn_of_long_texts(recipe, loaded, training_set)
    rows = plan_rows(
        weights,
        epochs=recipe.epochs,
        batch=recipe.batch_queries,
        seed=recipe.seed,
        sources=sources if recipe.batch_by_source else None,
    )
    steps = len(rows) // recipe.batch_queries
    if not steps:
        raise DataError(f"{len(training_set)} examples do not fill one batch of {recipe.batch_queries} queries")
    if recipe.max_steps is not None:
        steps = min(steps, recipe.max_steps)
        rows = rows[: steps * recipe.batch_queries]
    # Adapters and a new head begin at random, and dropout is drawn while training.
    torch.manual_seed(recipe.seed)
    make_trainable(loaded, recipe.lora)
    text_model = TextModel(loaded, checkpoint)
    trainer = trainer_for(
        text_model,
        _arguments(recipe, output, steps, loaded),
        loss=_loss(recipe, text_model),
        train_dataset=Dataset.from_dict({"row": rows, "position": np.arange(len(rows))}),
        data_collator=_collator(recipe, training_set, loaded, checkpoint),
        evaluator=_evaluator(recipe.evaluation, recipe, output / "cache") if recipe.evaluation else None,
        callbacks=[MetricsLog(output / METRICS_FILE), *_stopping(recipe)],
    )
    resumable = complete_checkpoints(output)
    trainer.train(resume_from_checkpoint=str(resumable[-1]) if resumable else None)
    if PartialState().is_main_process:
        save_trained(recipe, loaded, checkpoint, output)
        plot_metrics(output / METRICS_FILE, output / "metrics.png")
    return output


def _begin(recipe: Recipe, output: Path) -> None:
    """Writes the recipe into the run's folder, or checks that it is the one the run was begun with."""
    output.mkdir(parents=True, exist_ok=True)
    path, text = output / RECIPE_FILE, recipe.to_yaml()
    if path.is_file() and path.read_text() != text:
        raise DataError(f"{output} holds a run of another recipe: give another folder, or start that recipe again")
    if PartialState().is_main_process:
        path.write_text(text)


def load_base(recipe: Recipe) -> tuple[LoadedModel, Checkpoint]:
    """Loads the base of a recipe, and says what checkpoint it will become.

    Returns:
        The base, untrained, with a new head if it is to be a reranker and has none; the checkpoint's description.
    """
    base = recipe.base
    templates: dict[str, Any] = TEXT_TEMPLATES | PAIR_TEMPLATES
    longest = recipe.max_pair_tokens if recipe.kind == "reranker" else recipe.max_document_tokens
    described = Checkpoint(
        name=base.name,
        kind=recipe.kind,
        template=templates[base.template],
        pooling=base.pooling,
        max_tokens=longest,
        revision=base.revision,
        licence=base.licence,
    )
    device = choose_device() if PartialState().num_processes == 1 else PartialState().device
    dtype = choose_dtype(device, base.dtype)
    torch.manual_seed(recipe.seed)
    loaded = load(described, device=device, dtype=dtype, attention=base.attention, new_head=recipe.kind == "reranker")
    longest = max(longest, recipe.max_query_tokens if recipe.kind == "retriever" else 0)
    if longest > loaded.max_positions:
        raise DataError(f"{base.name} reads {loaded.max_positions} tokens at most, not {longest}: lower the limits")
    if loaded.tokenizer.pad_token_id is None:
        raise DataError(f"{base.name} has no pad token: set pad_token in its tokenizer_config.json")
    trained = replace(described, base=base.name, is_adapter=recipe.lora is not None, revision=None)
    return loaded, trained


def read_data(recipe: Recipe, cache: Path) -> tuple[TrainingSet, np.ndarray, np.ndarray]:
    """Reads every source of a recipe.

    Returns:
        All examples; float (n,) how often an epoch visits each; int (n,) the source of each.
    """
    sets, weights, sources = [], [], []
    for number, source in enumerate(recipe.data):
        documents = Documents.from_files([Path(p) for p in source.documents], cache) if source.documents else None
        if source.format == "tevatron":
            read = read_tevatron(Path(source.path), cache=cache)
        else:
            read = read_examples(Path(source.path), documents, cache=cache)
        sets.append(read)
        types = read.examples["query_type"]
        weights += [source.weight * source.query_types.get(query_type, 1.0) for query_type in types]
        sources += [number] * len(read)
    return concatenate(sets), np.array(weights, dtype=np.float64), np.array(sources)


def save_trained(recipe: Recipe, loaded: LoadedModel, checkpoint: Checkpoint, output: Path) -> None:
    """Writes what was trained so that torch_radar loads it by its folder."""
    if recipe.lora is not None:
        save_adapter(loaded, lora_config(loaded, recipe.lora), recipe.base.name, output)
    else:
        loaded.model.save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)
    save_radar_json(output, checkpoint)


def _warn_of_long_texts(recipe: Recipe, loaded: LoadedModel, training_set: TrainingSet) -> None:
    """Says how many of a sample of texts will lose their end."""
    chosen = np.linspace(0, len(training_set) - 1, min(_SAMPLE, len(training_set))).astype(int)
    examples = [training_set[int(i)] for i in chosen]
    limits = (recipe.max_query_tokens, recipe.max_document_tokens)
    if recipe.kind == "reranker":
        limits = (recipe.max_pair_tokens, recipe.max_pair_tokens)
    texts = ([e.query for e in examples], [training_set.documents.text(e.positive) for e in examples])
    for what, limit, strings in zip(("queries", "positives"), limits, texts, strict=True):
        longer = sum(len(ids) > limit for ids in token_ids(loaded.tokenizer, strings))
        if longer:
            logger.warning(
                "%d of %d sampled %s are longer than %d tokens and are cut", longer, len(strings), what, limit
            )


def _arguments(recipe: Recipe, output: Path, steps: int, loaded: LoadedModel) -> dict[str, Any]:
    state = PartialState()
    if recipe.batch_queries % state.num_processes:
        raise DataError(f"batch_queries {recipe.batch_queries} cannot be shared by {state.num_processes} processes")
    arguments: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": recipe.batch_queries // state.num_processes,
        "max_steps": steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": recipe.precision == "bfloat16",
        "seed": recipe.seed,
        "use_cpu": loaded.device.type == "cpu",
        "gradient_checkpointing": recipe.activation_checkpointing,
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "save_total_limit": recipe.checkpoints_kept,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": loaded.device.type == "cuda",
    }
    if recipe.evaluation is not None:
        every = recipe.evaluation.every_steps
        arguments |= {"eval_strategy": "steps", "eval_steps": every, "save_steps": every}
        arguments |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_nDCG@10"}
    return arguments


def _loss(recipe: Recipe, text_model: TextModel) -> InfoNCE | GroupCrossEntropy:
    shared: dict[str, Any] = {"mini_batch_tokens": recipe.mini_batch_tokens, "caching": recipe.caching}
    if recipe.kind == "reranker":
        return GroupCrossEntropy(text_model, **shared)
    return InfoNCE(text_model, temperature=recipe.temperature, in_batch_negatives=recipe.in_batch_negatives, **shared)


def _collator(
    recipe: Recipe, training_set: TrainingSet, loaded: LoadedModel, checkpoint: Checkpoint
) -> RetrieverCollator | RerankerCollator:
    shared: dict[str, Any] = {"group_size": recipe.group_size, "seed": recipe.seed}
    if recipe.kind == "reranker":
        limit = recipe.max_pair_tokens
        return RerankerCollator(training_set, loaded.tokenizer, checkpoint, max_pair_tokens=limit, **shared)
    limits = {"max_query_tokens": recipe.max_query_tokens, "max_document_tokens": recipe.max_document_tokens}
    return RetrieverCollator(training_set, loaded.tokenizer, checkpoint, **limits, **shared)


def _stopping(recipe: Recipe) -> list[Any]:
    if recipe.evaluation is None or recipe.evaluation.patience is None:
        return []
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(early_stopping_patience=recipe.evaluation.patience)]


def _evaluator(evaluation: Evaluation, recipe: Recipe, cache: Path) -> RankingEvaluator:
    documents = Documents.from_files([Path(p) for p in evaluation.documents], cache)
    queries = read_queries(Path(evaluation.queries))
    qrels: dict[str, dict[str, int]] = {}
    for judgement in ir_measures.read_trec_qrels(evaluation.qrels):
        qrels.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
    candidates: Run | None = None
    if evaluation.candidates is not None:
        candidates = {}
        for scored in ir_measures.read_trec_run(evaluation.candidates):
            candidates.setdefault(scored.query_id, {})[scored.doc_id] = scored.score
    limits: dict[str, Any] = {"max_tokens": recipe.max_pair_tokens}
    if recipe.kind == "retriever":
        limits = {"max_query_tokens": recipe.max_query_tokens, "max_document_tokens": recipe.max_document_tokens}
    return RankingEvaluator(
        {docno: documents.text(docno) for docno in documents.docnos()},
        queries,
        qrels,
        excluded={qid: [qid] for qid in queries} if evaluation.exclude_self else None,
        candidates=candidates,
        dtype=recipe.precision,
        **limits,
    )


def read_queries(path: Path) -> dict[str, str]:
    """Reads queries: JSONL with ``qid`` and ``query``, or lines of qid, tab, text.

    Raises:
        DataError: If a line has neither shape, or a qid occurs twice.
    """
    queries: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if path.suffix == ".jsonl":
                    record = json.loads(line)
                    qid, query = str(record["qid"]), str(record["query"])
                else:
                    qid, query = line.rstrip("\n").split("\t", 1)
            except (ValueError, KeyError) as error:
                raise DataError(
                    f"{path}:{number}: not a query ({error}): JSONL with qid and query, or qid<tab>text"
                ) from error
            if qid in queries:
                raise DataError(f"{path}:{number}: qid {qid!r} occurs twice: keep one")
            queries[qid] = query
    return queries
