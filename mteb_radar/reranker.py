"""A cross-encoder for mteb: its pairs in, ``torch_radar``'s logits out, and never a whole corpus by accident."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mteb_radar.facts import changed_settings, checkpoint_of, describe
from torch_radar.checkpoints import Checkpoint
from torch_radar.reranker import Reranker
from torch_radar.templates import PairTemplate

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, PromptType
    from torch.utils.data import DataLoader


class RadarReranker:
    """A RaDeR reranker, or one of your own, behind mteb's ``CrossEncoderProtocol``.

    Args:
        model_name: A released name, a folder, or a :class:`~torch_radar.checkpoints.Checkpoint`.
        revision: Hub commit of the weights; ``None`` is the one in the metadata, or else the newest.
        device: See :class:`torch_radar.Reranker`.
        dtype: See :class:`torch_radar.Reranker`.
        template: Another pair form than the checkpoint's own.
        max_tokens: The most tokens of a pair, if not the checkpoint's own limit.
        batch_tokens: Padded tokens of a batch; it changes speed and memory alone.
        progress: Whether to show a progress bar.

    Raises:
        CheckpointError: The checkpoint is unknown.
        ValueError: It is a retriever, or a setting is unknown.
    """

    def __init__(
        self,
        model_name: str | Path | Checkpoint,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        template: str | PairTemplate | None = None,
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        progress: bool = False,
    ) -> None:
        self.reranker = Reranker(
            checkpoint_of(model_name, revision, "reranker"),
            device=device,
            dtype=dtype,
            template=template,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        changed = changed_settings(
            self.reranker.model, None if template is None else self.reranker.template, max_tokens=max_tokens
        )
        self.mteb_model_meta = describe(self.reranker.model, changed)

    def predict(
        self,
        inputs1: DataLoader[BatchedInput],
        inputs2: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Scores pairs.

        Args:
            inputs1: Queries, one for each pair.
            inputs2: Documents, one for each pair.
            task_metadata: Of the task: whether it gives each query a few documents.
            hf_split: Unused.
            hf_subset: Unused.
            prompt_type: Unused.
            **kwargs: Unused: batches are cut by tokens.

        Returns:
            float32 (n,) logits, in input order.

        Raises:
            ValueError: See :func:`require_candidates`.
        """
        require_candidates(task_metadata)
        queries = [text for batch in inputs1 for text in batch["text"]]
        documents = [text for batch in inputs2 for text in batch["text"]]
        return self.reranker.score(zip(queries, documents, strict=True))


def require_candidates(task: TaskMetadata) -> None:
    """Refuses a retrieval task: a cross-encoder would read its corpus once for each query.

    BRIGHT's tasks are some, and list for each query all documents but the excluded ones.

    Raises:
        ValueError: It is a retrieval task that :func:`mteb_radar.as_reranking` has not prepared.
    """
    if task.type == "Retrieval":
        raise ValueError(
            f"{task.name} is a retrieval task, and a cross-encoder would read its corpus once for each query: rerank a "
            "retriever's rankings instead (radar mteb rerank, or mteb_radar.as_reranking)"
        )
