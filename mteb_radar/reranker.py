"""A cross-encoder for mteb: its pairs in, ``torch_radar``'s logits out, and never a whole corpus by accident."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mteb_radar.facts import checkpoint_of, describe
from torch_radar.checkpoints import Checkpoint
from torch_radar.reranker import Reranker
from torch_radar.templates import PairTemplate

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput, PromptType
    from torch.utils.data import DataLoader

MOST_DOCUMENTS = 1000
"""Documents of one query: as deep as any first stage, far below a corpus."""


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
        most_documents: The most documents of one query; a task with more is refused before anything is scored.
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
        most_documents: int = MOST_DOCUMENTS,
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
        self.most_documents = most_documents
        settings = {
            "dtype": dtype,
            "template": self.reranker.template.name if template is not None else None,
            "max_tokens": max_tokens,
        }
        changed = {name: value for name, value in settings.items() if value is not None}
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
            task_metadata: Whose name an error says.
            hf_split: Unused.
            hf_subset: Unused.
            prompt_type: Unused.
            **kwargs: Unused: batches are cut by tokens.

        Returns:
            float32 (n,) logits, in input order.

        Raises:
            ValueError: A query has more documents than a first stage would give it.
        """
        queries: list[str] = []
        pairs_of: Counter[str] = Counter()
        for batch in inputs1:
            queries += batch["text"]
            pairs_of.update(batch["text"])
            query, count = pairs_of.most_common(1)[0]
            if count > self.most_documents:
                raise ValueError(
                    f"{task_metadata.name} has more than {self.most_documents} documents for the query {query[:60]!r}: "
                    "a cross-encoder would read the corpus once for each query. BRIGHT lists all documents but the "
                    "excluded ones there; rerank the predictions of a retriever instead (radar mteb rerank)"
                )
        documents = [text for batch in inputs2 for text in batch["text"]]
        return self.reranker.score(zip(queries, documents, strict=True))
