"""The library's trainers, made to resume exactly and to stop at the first number that is not one.

A checkpoint of a run counts once its list of files is written, last; resuming takes the newest whose list holds, so
one that was being written when the machine stopped, or being deleted, is passed over.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.trainer import BaseTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.sentence_transformer import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from torch_radar.files import replacing
from training.model import TextModel

_MANIFEST = "files.json"
_BLOCK = 16 << 20


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what to do."""


def complete_checkpoints(run: Path) -> list[Path]:
    """Returns the run's checkpoints whose every file is as it was written, oldest first."""
    folders = sorted(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    return [folder for folder in folders if _is_complete(folder)]


def _is_complete(folder: Path) -> bool:
    try:
        written = json.loads((folder / _MANIFEST).read_text())
        return written == _contents(folder)
    except (OSError, ValueError):
        return False


def _contents(folder: Path) -> dict[str, list[int]]:
    """Size and CRC-32 of every file: after a power cut, a file can have its size and not its bytes."""
    contents = {}
    for path in folder.iterdir():
        if path.name != _MANIFEST:
            checksum = 0
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    checksum = zlib.crc32(block, checksum)
            contents[path.name] = [path.stat().st_size, checksum]
    return contents


class _PlannedTrainer:
    """What both trainers share: planned order, small checkpoints, no silent NaN. Mixed into a library trainer."""

    model: Any
    args: Any
    state: Any
    accelerator: Any
    checkpoints_kept: int
    _inputs: dict[str, Any]

    def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
        """Reads the rows in the order they were planned in."""
        return BatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leaves out the library's model card: it would describe another folder than the one that is exported."""

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
        self._inputs = inputs
        # Not the cross-encoder's own: it offers a loss prompts, and answers any TypeError by computing it again.
        result = BaseTrainer.compute_loss(self, model, inputs, *args, **kwargs)  # type: ignore[arg-type]
        self._require_finite("loss", result[0] if isinstance(result, tuple) else result)
        return result

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)  # type: ignore[misc]
        # One step later the weights would not be finite, and could be saved before any loss shows it.
        self._require_finite("gradient", norm)
        return norm

    def _require_finite(self, what: str, value: Any) -> None:
        number = float(torch.as_tensor(value).detach())
        if math.isfinite(number):
            return
        step = self.state.global_step + 1
        process = f"-process-{self.args.process_index}" if self.args.world_size > 1 else ""
        path = Path(self.args.output_dir) / f"bad-batch-{step}{process}.json"
        path.write_text(json.dumps({key: _plain(value) for key, value in self._inputs.items()}))
        raise TrainingError(
            f"the {what} of step {step} is {number}: its batch (token ids and labels) is in {path}. Lower the "
            "learning rate, or compute in float32 (precision: float32)"
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.text_model.save(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        self.text_model.restore(Path(checkpoint_path))

    def _load_best_model(self) -> None:
        # The library only logs what goes wrong here, and would go on with the last weights. It also remembers the
        # folder's path, which is another one after the run was moved.
        self.text_model.restore(Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run = Path(self.args.output_dir)
        folder = run / f"checkpoint-{self.state.global_step}"
        try:
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)  # what a killed run left there
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # every process leaves its random state there
            if self.args.should_save:
                with replacing(folder / _MANIFEST) as aside:
                    aside.write_text(json.dumps(_contents(folder)))
                # Only now: until this one counts, an older one is what a kill falls back on.
                rotate_checkpoints(
                    str(run),
                    save_total_limit=self.checkpoints_kept,
                    best_model_checkpoint=self.state.best_model_checkpoint,
                )
        except (OSError, RuntimeError) as error:  # safetensors and torch report a full disk each in its own way
            shutil.rmtree(folder, ignore_errors=True)
            kept = complete_checkpoints(run)
            last = f"the last good one is {kept[-1]}" if kept else "there is none before it"
            raise TrainingError(
                f"could not save a checkpoint in {folder} ({error}); {last}. Make room and start the same command again"
            ) from error

    @property
    def text_model(self) -> TextModel:
        """The one module of the library's model."""
        return self.model[0]


class RetrieverTrainer(_PlannedTrainer, SentenceTransformerTrainer):  # type: ignore[misc]
    """Trains a :class:`TextModel` of kind retriever; takes what the library's trainer takes."""


class RerankerTrainer(_PlannedTrainer, CrossEncoderTrainer):  # type: ignore[misc]
    """Trains a :class:`TextModel` of kind reranker; takes what the library's trainer takes."""


class MetricsLog(TrainerCallback):
    """Appends what the trainer logs to ``metrics.jsonl``; a resumed run continues where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drops lines of steps that will be run again."""
        if state.is_world_process_zero:
            kept = [record for record in read_metrics(self.path) if record["step"] <= state.global_step]
            with replacing(self.path) as aside:
                aside.write_text("".join(json.dumps(record) + "\n" for record in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Appends one line; the summary of one start says nothing of the run and is left out."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            told = {key: value for key, value in logs.items() if not key.endswith("_per_second")}
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step} | told) + "\n")


class ProgressBar(TrainerCallback):
    """One line in a terminal: steps, the loss, and nDCG@10 once it was measured."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Shows the bar, where the run goes on if it was stopped."""
        hidden = None if state.is_world_process_zero else True  # None: unless the output is no terminal
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="training", unit=" steps", disable=hidden
        )
        self.shown: dict[str, str] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Counts a step."""
        self.bar.update()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Shows the newest numbers."""
        names = {"loss": "loss", "eval_nDCG@10": "nDCG@10"}
        self.shown |= {names[key]: f"{value:.4f}" for key, value in (logs or {}).items() if key in names}
        self.bar.set_postfix(self.shown, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leaves the finished bar."""
        self.bar.close()


class EarlyStopping(TrainerCallback):
    """Stops when the newest evaluations have not been better than one before them.

    It counts in the history that every checkpoint holds, so that a resumed run stops where it would have stopped.

    Args:
        patience: How many evaluations may be no better than the best.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asks the trainer to stop."""
        if self.is_over(state):
            control.should_training_stop = True

    def is_over(self, state: Any) -> bool:
        """Whether a run of this history is to stop."""
        scores = [record["eval_nDCG@10"] for record in state.log_history if "eval_nDCG@10" in record]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= self.patience


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Returns the records of a ``metrics.jsonl``, oldest first; a last line cut by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def trainer_for(
    text_model: TextModel, arguments: dict[str, Any], *, checkpoints_kept: int, **parts: Any
) -> RetrieverTrainer | RerankerTrainer:
    """Returns the trainer of a model's kind.

    Args:
        text_model: What is trained.
        arguments: Of the library's training arguments.
        checkpoints_kept: How many of the newest checkpoints stay; the best one always does.
        parts: ``loss``, ``train_dataset``, ``data_collator``, ``evaluator``, ``callbacks``. The loss is a function of
            the model to call, which is the library's: around it come precision and the exchange between processes.
    """
    device = str(text_model.loaded.device)
    trainer: RetrieverTrainer | RerankerTrainer
    if text_model.checkpoint.kind == "retriever":
        trainer = RetrieverTrainer(
            model=SentenceTransformer(modules=[text_model], device=device),
            args=SentenceTransformerTrainingArguments(**arguments),
            **parts,
        )
    else:
        trainer = RerankerTrainer(
            model=CrossEncoder(modules=[text_model], device=device),
            args=CrossEncoderTrainingArguments(**arguments),
            **parts,
        )
    trainer.checkpoints_kept = checkpoints_kept
    trainer.remove_callback(PrinterCallback)  # it prints every step
    return trainer


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
