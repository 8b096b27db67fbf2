"""A retriever for mteb: its texts in, ``torch_radar``'s vectors out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from mteb.types import PromptType

from mteb_radar import models
from mteb_radar.facts import changed_settings, checkpoint_of, describe
from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder
from torch_radar.templates import TextTemplate

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader


class RadarEncoder(AbsEncoder):
    """A RaDeR retriever, or one of your own, behind mteb's ``EncoderProtocol``.

    Documents are encoded in the checkpoint's document form, everything else in its query form, with the task's
    instruction: that of :data:`mteb_radar.models.PROMPTS` for a RaDeR checkpoint, none for tasks it does not name and
    for models of another text form.

    Args:
        model_name: A released name, a folder, a packaged model, or a :class:`~torch_radar.checkpoints.Checkpoint`.
        revision: Hub commit of the weights; ``None`` is the one in the metadata, or else the newest.
        device: See :class:`torch_radar.Encoder`.
        dtype: See :class:`torch_radar.Encoder`.
        template: Another text form than the checkpoint's own.
        instruction: One instruction for every task, instead of the task's own; ``""`` for none.
        max_query_tokens: The most tokens of a query, if not the checkpoint's own limit.
        max_document_tokens: The same for a document.
        batch_tokens: Padded tokens of a batch; it changes speed and memory alone.
        progress: Whether to show a progress bar.

    Raises:
        CheckpointError: The checkpoint is unknown.
        ValueError: It is a reranker, or a setting is unknown.
    """

    def __init__(
        self,
        model_name: str | Path | Checkpoint,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        template: str | TextTemplate | None = None,
        instruction: str | None = None,
        max_query_tokens: int | None = None,
        max_document_tokens: int | None = None,
        batch_tokens: int | None = None,
        progress: bool = False,
    ) -> None:
        self.encoder = Encoder(
            checkpoint_of(model_name, revision, "retriever"),
            device=device,
            dtype=dtype,
            template=template,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        self.instruction = instruction
        changed = changed_settings(
            self.encoder.model,
            None if template is None else self.encoder.template,
            instruction,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
        )
        self.mteb_model_meta = describe(self.encoder.model, changed)

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Encodes texts; mteb's batches are read and cut anew, by tokens.

        Returns:
            float32 (n, dimension), unit rows in input order.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        if prompt_type == PromptType.document:
            return self.encoder.encode_documents(texts)
        return self.encoder.with_instruction(self.instruction_of(task_metadata.name)).encode_queries(texts)

    def instruction_of(self, task: str) -> str:
        """Returns what is put before the queries of a task, behind the query prefix."""
        if self.instruction is not None:
            return self.instruction
        return models.PROMPTS.get(base_task(task), "") if self.encoder.template.query_prefix else ""


def base_task(task: str) -> str:
    """Returns the task whose corpus and instruction a reasoning variant has: the part before the dot."""
    return task.partition(".")[0]
