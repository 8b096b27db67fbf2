"""The library's trainers, made to resume exactly and to stop at the first number that is not one.

A checkpoint of a run counts once its list of files is written, last; resuming takes the newest whose list holds, so
one that was being written when the machine stopped, or being deleted, is passed over.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.sentence_transformer import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import TrainerCallback

from training.model import TextModel

_MANIFEST = "files.json"


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to do."""


def complete_checkpoints(run: Path) -> list[Path]:
    """Returns the run's checkpoints whose every file is there in full, oldest first."""
    folders = sorted(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    return [folder for folder in folders if _is_complete(folder)]


def _is_complete(folder: Path) -> bool:
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return False
    try:
        sizes = json.loads(manifest.read_text())
    except json.JSONDecodeError:
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


class _PlannedTrainer:
    """What both trainers share: planned order, small checkpoints, no silent NaN. Mixed into a library trainer."""

    model: Any
    args: Any
    state: Any

    def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
        """Reads the rows in the order they were planned in."""
        return BatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Tensor]], Any]:
        """Splits a collated batch into its one column and its labels."""
        prefix = "text_"
        column = {key.removeprefix(prefix): value for key, value in inputs.items() if key.startswith(prefix)}
        return [column], inputs["label"]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Computes the loss of a batch.

        Raises:
            TrainingError: If it is not finite; the batch is kept beside the run.
        """
        result = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        loss = result[0] if isinstance(result, tuple) else result
        if not bool(torch.isfinite(loss)):
            path = Path(self.args.output_dir) / f"bad-batch-{self.state.global_step}.json"
            path.write_text(json.dumps({key: _plain(value) for key, value in inputs.items()}))
            raise TrainingError(
                f"the loss of step {self.state.global_step + 1} is {loss.item()}: its batch (token ids and labels) is in "
                f"{path}. Lower the learning rate, or compute in float32 (precision: float32)"
            )
        return result

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.text_model.save(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        self.text_model.restore(Path(checkpoint_path))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            if self.args.should_save:
                sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
                (folder / _MANIFEST).write_text(json.dumps(sizes))
        except (OSError, RuntimeError) as error:  # safetensors and torch report a full disk each in its own way
            shutil.rmtree(folder, ignore_errors=True)
            kept = complete_checkpoints(Path(self.args.output_dir))
            last = f"the last good one is {kept[-1]}" if kept else "there is none before it"
            raise TrainingError(
                f"could not save a checkpoint in {folder} ({error}); {last}. Make room and start the same command again"
            ) from error

    @property
    def text_model(self) -> TextModel:
        """The one module of the library's model."""
        return self.model[0]


class RetrieverTrainer(_PlannedTrainer, SentenceTransformerTrainer):
    """Trains a :class:`TextModel` of kind retriever; takes what the library's trainer takes."""


class RerankerTrainer(_PlannedTrainer, CrossEncoderTrainer):
    """Trains a :class:`TextModel` of kind reranker; takes what the library's trainer takes."""


class MetricsLog(TrainerCallback):
    """Appends what the trainer logs to ``metrics.jsonl``; a resumed run continues where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drops lines of steps that will be run again."""
        if state.is_world_process_zero:
            kept = [record for record in read_metrics(self.path) if record["step"] <= state.global_step]
            self.path.write_text("".join(json.dumps(record) + "\n" for record in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Appends one line."""
        if state.is_world_process_zero and logs:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step} | logs) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Returns the records of a ``metrics.jsonl``, oldest first; a last line cut by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def trainer_for(text_model: TextModel, arguments: dict[str, Any], **parts: Any) -> RetrieverTrainer | RerankerTrainer:
    """Returns the trainer of a model's kind.

    Args:
        text_model: What is trained.
        arguments: Of the library's training arguments.
        parts: ``loss``, ``train_dataset``, ``data_collator``, ``evaluator``, ``callbacks``.
    """
    device = str(text_model.loaded.device)
    if text_model.checkpoint.kind == "retriever":
        args = SentenceTransformerTrainingArguments(**arguments)
        return RetrieverTrainer(model=SentenceTransformer(modules=[text_model], device=device), args=args, **parts)
    args = CrossEncoderTrainingArguments(**arguments)
    return RerankerTrainer(model=CrossEncoder(modules=[text_model], device=device), args=args, **parts)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
