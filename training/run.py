"""From a recipe to a run folder: everything put together, in the order it happens."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from datasets import Dataset
from torch import nn
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from torch_radar.checkpoints import RADAR_JSON, Checkpoint, save_radar_json
from torch_radar.encoder import Encoder
from torch_radar.loaded import LoadedModel
from torch_radar.loading import choose_device, choose_dtype, load
from torch_radar.templates import PAIR_TEMPLATES, TEXT_TEMPLATES, PairTemplate, framing, token_ids
from torch_radar.vectors import StoreMismatchError
from training.begun import begin, note_data
from training.collator import RerankerCollator, RetrieverCollator
from training.data import DataError, Documents, TrainingSet, concatenate, read_examples, read_tevatron
from training.evaluation import evaluator_for
from training.latex import reading_latex
from training.losses import GroupCrossEntropy, InfoNCE
from training.model import TextModel, lora_config, make_trainable, save_adapter, set_dropout
from training.plan import plan_rows
from training.plots import plot_metrics
from training.recipe import Recipe
from training.trainer import EarlyStopping, MetricsLog, ProgressBar, complete_checkpoints, trainer_for

if TYPE_CHECKING:
    from training.negatives import ScoringMiner

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
_SAMPLE = 2000


def train(recipe: Recipe, output: Path) -> Path:
    """Trains a checkpoint, or goes on with a run that was stopped.

    Args:
        recipe: What to do.
        output: The run's folder, made if absent. If it holds a run of the same recipe and data, it is resumed from its
            newest complete checkpoint and ends with the weights it would have had without the stop.

    Returns:
        ``output``, which ends with the trained adapter or weights, ``radar.json``, ``recipe.yaml``,
        ``data.json`` (digests of what it was made from), ``metrics.jsonl`` and ``metrics.png``.

    Raises:
        RecipeError, DataError, CheckpointError: Before any step, if recipe, data, base or teacher are wrong.
        ValueError: Before anything, if the launcher would shard the model.
        TrainingError: If the loss is not finite or a checkpoint cannot be saved.
    """
    _refuse_shards()
    process = processes()
    if process.is_main_process:
        begin(recipe, output)
    process.wait_for_everyone()
    if (output / RADAR_JSON).is_file():
        logger.info("%s is trained already", output)
        return output
    loaded, checkpoint = load_base(recipe)
    with process.main_process_first():  # the others find what it leaves in the cache
        training_set, weights, sources = read_data(recipe, output / "cache")
        evaluator = evaluator_for(recipe, output / "cache")
    if process.is_main_process:
        note_data(recipe, output)
        _warn_of_long_texts(recipe, loaded, checkpoint, training_set)
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
    with process.main_process_first():
        teacher = _teacher(recipe, training_set, loaded.device, output / "cache")
    # Adapters and a new head begin at random, and dropout is drawn while training.
    torch.manual_seed(recipe.seed)
    make_trainable(loaded, recipe.lora)
    if recipe.activation_checkpointing:
        loaded.model.activation_checkpointing_enable()
    text_model = TextModel(loaded, checkpoint)
    stopping = _stopping(recipe)
    trainer = trainer_for(
        text_model,
        _arguments(recipe, output, steps, loaded),
        checkpoints_kept=recipe.checkpoints_kept,
        loss=partial(_loss, recipe),
        train_dataset=Dataset.from_dict({"row": rows, "position": np.arange(len(rows))}),
        data_collator=_collator(recipe, training_set, loaded, checkpoint, teacher),
        evaluator=evaluator,
        callbacks=[MetricsLog(output / METRICS_FILE), ProgressBar(), *stopping],
    )
    resumable = complete_checkpoints(output)
    newest = resumable[-1] if resumable else None
    history = TrainerState.load_from_json(str(newest / TRAINER_STATE_NAME)) if newest else None
    if history is not None and any(one.is_over(history) for one in stopping):
        text_model.restore(output / f"checkpoint-{history.best_global_step}")  # killed after its last step
    else:
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    if process.is_main_process:
        plot_metrics(output / METRICS_FILE, output / "metrics.png")
        save_trained(recipe, loaded, checkpoint, output)
    process.wait_for_everyone()
    return output


def _refuse_shards() -> None:
    """Refuses launchers that may cut the model up: what is saved here is what one process sees of it."""
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise ValueError(
                f"the launcher's configuration asks for {name}, and checkpoints could hold the shards of one process: "
                "launch data parallel (docs/distributed.md). LoRA, base.dtype: bfloat16, activation_checkpointing or a "
                "smaller mini_batch_tokens save memory"
            )


def processes() -> PartialState:
    """This process and those it was launched with; without a GPU they have to be asked for."""
    # The others wait while the first reads, encodes or evaluates, which may take longer than the usual ten minutes.
    return PartialState(cpu=choose_device().type == "cpu", timeout=timedelta(days=1))


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
    process = processes()
    device = choose_device() if process.num_processes == 1 else process.device
    dtype = choose_dtype(device, base.dtype)
    torch.manual_seed(recipe.seed)
    loaded = load(described, device=device, dtype=dtype, attention=base.attention, new_head=recipe.kind == "reranker")
    if base.reads_latex:
        loaded = replace(loaded, tokenizer=reading_latex(loaded.tokenizer))
    if base.dropout is not None:
        set_dropout(loaded, base.dropout)
    longest = max(longest, recipe.max_query_tokens if recipe.kind == "retriever" else 0)
    if longest > loaded.max_positions:
        raise DataError(f"{base.name} reads {loaded.max_positions} tokens at most, not {longest}: lower the limits")
    if loaded.tokenizer.pad_token_id is None:
        raise DataError(f"{base.name} has no pad token: set pad_token in its tokenizer_config.json")
    if described.ends_with_eos and loaded.tokenizer.eos_token_id is None:
        raise DataError(f"{base.name} has no EOS token, and it is pooled there: set eos_token in tokenizer_config.json")
    if recipe.kind == "reranker" and (dtype, recipe.precision) == (torch.bfloat16, "float32"):
        raise DataError(
            "the head is trained in float32 and cannot read a bfloat16 base directly: precision: bfloat16 converts "
            "between them, or keep the base in float32 (base.dtype: float32)"
        )
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
    """Writes what was trained so that torch_radar loads it by its folder; ``radar.json``, last, says it is whole."""
    if recipe.lora is not None:
        save_adapter(loaded, lora_config(loaded, recipe.lora), recipe.base.name, output)
    else:
        loaded.model.config.pad_token_id = loaded.tokenizer.pad_token_id  # transformers batches no pairs without one
        loaded.model.save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)
    save_radar_json(output, checkpoint)


def _warn_of_long_texts(recipe: Recipe, loaded: LoadedModel, checkpoint: Checkpoint, training_set: TrainingSet) -> None:
    """Says how many of a sample of texts will lose their end.

    Raises:
        DataError: If a reranker's query leaves no room for a document; all of them are looked at.
    """
    chosen = np.linspace(0, len(training_set) - 1, min(_SAMPLE, len(training_set))).astype(int)
    examples = [training_set[int(i)] for i in chosen]
    documents = [training_set.documents.text(example.positive) for example in examples]
    template = checkpoint.template
    frame = len(framing(loaded.tokenizer, ends_with_eos=checkpoint.ends_with_eos))
    if isinstance(template, PairTemplate):
        _require_room(recipe.max_pair_tokens - frame, loaded, template, training_set)
        pairs = [
            template.head(example.query) + document + template.after_document
            for example, document in zip(examples, documents, strict=True)
        ]
        kinds = [("pairs", recipe.max_pair_tokens, pairs)]
    else:
        queries = [template.query(example.query) for example in examples]
        positives = [template.document(document) for document in documents]
        kinds = [
            ("queries", recipe.max_query_tokens, queries),
            ("positives", recipe.max_document_tokens, positives),
        ]
    for what, limit, strings in kinds:
        longer = sum(len(ids) + frame > limit for ids in token_ids(loaded.tokenizer, strings))
        if longer:
            logger.warning(
                "%d of %d sampled %s are longer than %d tokens and are cut", longer, len(strings), what, limit
            )


def _require_room(room: int, loaded: LoadedModel, template: PairTemplate, training_set: TrainingSet) -> None:
    tail = len(token_ids(loaded.tokenizer, [template.after_document])[0]) if template.after_document else 0
    for start in range(0, len(training_set), _SAMPLE):
        some = training_set.examples[start : start + _SAMPLE]
        heads = token_ids(loaded.tokenizer, [template.head(query) for query in some["query"]])
        for query_id, ids in zip(some["query_id"], heads, strict=True):
            if len(ids) + tail >= room:
                raise DataError(
                    f"query {query_id!r} has {len(ids)} tokens with its template and leaves no room for a document: "
                    "shorten it, or raise max_pair_tokens"
                )


def _arguments(recipe: Recipe, output: Path, steps: int, loaded: LoadedModel) -> dict[str, Any]:
    state = processes()
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
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,  # the bar is ours
        "report_to": "none",
        "ddp_broadcast_buffers": False,  # no buffer changes
        "remove_unused_columns": False,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": loaded.device.type == "cuda",
    }
    if recipe.evaluation is not None:
        every = recipe.evaluation.every_steps
        arguments |= {"eval_strategy": "steps", "eval_steps": every, "save_steps": every}
        arguments |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_nDCG@10"}
    return arguments


def _loss(recipe: Recipe, model: nn.Module) -> InfoNCE | GroupCrossEntropy:
    shared: dict[str, Any] = {"mini_batch_tokens": recipe.mini_batch_tokens, "caching": recipe.caching}
    if recipe.kind == "reranker":
        if recipe.teacher is not None:
            shared |= {"teacher_weight": recipe.teacher.weight, "teacher_temperature": recipe.teacher.temperature}
        return GroupCrossEntropy(model, **shared)
    return InfoNCE(model, temperature=recipe.temperature, in_batch_negatives=recipe.in_batch_negatives, **shared)


def _teacher(recipe: Recipe, training_set: TrainingSet, device: torch.device, cache: Path) -> ScoringMiner | None:
    """Has a recipe's teacher encode the documents once, into the run's cache."""
    if recipe.teacher is None:
        return None
    from training.negatives import EncoderMiner  # with bm25s, which starts JAX where it is installed

    encoder = Encoder(recipe.teacher.name, device=str(device), dtype=recipe.precision)
    _ = encoder.dimension  # loaded now in every start: an adapter draws random numbers, and training's come later
    folder = cache / "teacher"
    try:
        teacher = EncoderMiner(training_set.documents, encoder, folder)
    except StoreMismatchError:  # documents or teacher were mended before the first step; later, begin() refuses them
        shutil.rmtree(folder)
        teacher = EncoderMiner(training_set.documents, encoder, folder)
    teacher.encode_documents()
    return teacher


def _collator(
    recipe: Recipe,
    training_set: TrainingSet,
    loaded: LoadedModel,
    checkpoint: Checkpoint,
    teacher: ScoringMiner | None = None,
) -> RetrieverCollator | RerankerCollator:
    shared: dict[str, Any] = {"group_size": recipe.group_size, "seed": recipe.seed}
    if recipe.kind == "reranker":
        limit = recipe.max_pair_tokens
        return RerankerCollator(
            training_set, loaded.tokenizer, checkpoint, max_pair_tokens=limit, teacher=teacher, **shared
        )
    limits = {"max_query_tokens": recipe.max_query_tokens, "max_document_tokens": recipe.max_document_tokens}
    return RetrieverCollator(training_set, loaded.tokenizer, checkpoint, **limits, **shared)


def _stopping(recipe: Recipe) -> list[EarlyStopping]:
    if recipe.evaluation is None or recipe.evaluation.patience is None:
        return []
    return [EarlyStopping(recipe.evaluation.patience)]
