"""Pairs to logits: a pointwise reranker that reads each query once.

All documents of a query are scored against the same query, and in a causal model the states of a shared prefix do
not depend on what follows. So the longest common prefix of the exact token ids of a query's pairs runs once; its
keys and values serve every document, in sorted batches of the remaining tokens. Equal pairs are scored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm.auto import tqdm

from torch_radar.batching import default_batch_tokens, default_threads, pad_right, run_batches, to_device
from torch_radar.checkpoints import Checkpoint, CheckpointError, resolve
from torch_radar.encoder import TextError, require_text
from torch_radar.loaded import LoadedModel
from torch_radar.loading import LazyModel
from torch_radar.templates import PairTemplate, frame_pairs, framing, pair_template

if TYPE_CHECKING:
    from transformers import DynamicCache


class Reranker:
    """A reranker checkpoint: (query, document) pairs to relevance logits (RaDeR §5).

    The name is resolved and checked at once; weights are loaded when something is first scored.

    Args:
        checkpoint: A released reranker, a local folder, or a :class:`Checkpoint`.
        template: ``"recovered"``, ``"authors"`` or a template, instead of the checkpoint's own.
        max_tokens: The most tokens of a pair, template included; only the document is cut.
        device: See :class:`torch_radar.loading.LazyModel`.
        dtype: See :class:`torch_radar.loading.LazyModel`.
        attention: See :class:`torch_radar.loading.LazyModel`.
        batch_tokens: Padded tokens of a batch; ``None`` suits the device. It changes speed and memory alone.
        progress: Whether to show a progress bar.
        loaded: See :class:`torch_radar.loading.LazyModel`.

    Raises:
        CheckpointError: If no checkpoint is named, or it is unknown or a retriever.
        ValueError: If the template, device or dtype is unknown.
    """

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint | None = None,
        *,
        template: str | PairTemplate | None = None,
        max_tokens: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        batch_tokens: int | None = None,
        progress: bool = False,
        loaded: LoadedModel | None = None,
    ) -> None:
        if checkpoint is None:
            raise CheckpointError(
                "no reranker is named, and there is no small default one: give a Raderspace/… reranker or a folder"
            )
        self.checkpoint = resolve(checkpoint)
        if self.checkpoint.kind != "reranker":
            raise CheckpointError(f"{self.checkpoint.name} is a {self.checkpoint.kind}, and a reranker is needed here")
        self.template = pair_template(self.checkpoint.template if template is None else template)  # type: ignore[arg-type]
        self.max_tokens = self.checkpoint.max_tokens if max_tokens is None else max_tokens
        self.model = LazyModel(self.checkpoint, device=device, dtype=dtype, attention=attention, loaded=loaded)
        self.batch_tokens = batch_tokens or default_batch_tokens(self.device)
        self.progress = progress

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @property
    def loaded(self) -> LoadedModel:
        """The model, loaded on first use."""
        if self.model.loaded.head is None:
            raise CheckpointError(f"{self.checkpoint.name} has neither a `score` nor a `classifier` head")
        return self.model.loaded

    def settings(self) -> dict[str, Any]:
        """Everything that changes a score, known without loading weights: equal settings, equal scores."""
        return self.model.settings() | {
            "before_query": self.template.before_query,
            "before_document": self.template.before_document,
            "after_document": self.template.after_document,
            "max_tokens": self.max_tokens,
        }

    def score(self, pairs: Iterable[tuple[str, str]]) -> np.ndarray:
        """Scores pairs of query and document.

        Args:
            pairs: n (query, document) strings, in any order; sharing a query makes them cheap.

        Returns:
            float32 (n,) logits in input order.

        Raises:
            TextError: If a text is not a string, or a query leaves no room for its document.
        """
        pairs = [(require_text(i, query), require_text(i, document)) for i, (query, document) in enumerate(pairs)]
        by_query: dict[str, dict[str, list[int]]] = {}
        for position, (query, document) in enumerate(pairs):
            by_query.setdefault(query, {}).setdefault(document, []).append(position)
        scores = np.empty(len(pairs), dtype=np.float32)
        with tqdm(total=len(pairs), desc="reranking", unit=" pairs", disable=not self.progress, leave=False) as bar:
            for query, documents in by_query.items():
                for logit, positions in zip(self._score_query(query, documents), documents.values(), strict=True):
                    scores[positions] = logit
                    bar.update(len(positions))
        return scores

    @torch.inference_mode()
    def _score_query(self, query: str, documents: dict[str, list[int]]) -> np.ndarray:
        """Logits (n,) of one query's distinct documents, in their order."""
        frame = framing(self.loaded.tokenizer, ends_with_eos=self.checkpoint.ends_with_eos)
        pairs = [(query, document) for document in documents]
        try:
            sequences = frame_pairs(self.loaded.tokenizer, pairs, self.template, frame, self.max_tokens)
        except ValueError as error:
            raise TextError(min(p for positions in documents.values() for p in positions), str(error)) from error
        shared = _common_prefix(sequences) if self.loaded.is_causal and len(sequences) > 1 else 0
        prefix = self._prefix_states(sequences[0][:shared]) if shared else None
        # A row also holds its own keys and values of the prefix: about half of what a token costs while it is computed.
        lengths = np.array([len(s) - shared + shared // 2 for s in sequences])
        logits = torch.empty(len(sequences), dtype=torch.float32, device=self.device)

        def forward(rows: np.ndarray) -> None:
            places = to_device(torch.from_numpy(rows), self.device)
            ids, row_lengths = pad_right([sequences[row][shared:] for row in rows], self.device)
            logits[places] = self._logits(ids, row_lengths, prefix)

        run_batches(lengths, self.batch_tokens, forward, threads=default_threads(self.device))
        if not bool(logits.isfinite().all()):
            raise ValueError(
                f"{self.checkpoint.name} gave scores that are not finite in {self.model.dtype}: use another dtype"
            )
        return logits.cpu().numpy()

    def _prefix_states(self, ids: Sequence[int]) -> DynamicCache:
        """Keys and values of a prefix, one row, for every layer."""
        from transformers import DynamicCache

        cache = DynamicCache()
        self.loaded.states(torch.tensor([list(ids)], device=self.device), past=cache)
        return cache

    def _logits(self, ids: torch.Tensor, lengths: torch.Tensor, prefix: DynamicCache | None) -> torch.Tensor:
        """Logits (n,) at the last real token of right-padded ids (n, longest), float32."""
        past = None if prefix is None else _repeated(prefix, len(ids))
        return self.loaded.logits(ids, lengths, past)


def _repeated(prefix: DynamicCache, rows: int) -> DynamicCache:
    """A cache that holds the prefix once for every row of a batch."""
    from transformers import DynamicCache

    layers: list[Any] = prefix.layers
    return DynamicCache(
        [(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in layers]
    )


def _common_prefix(sequences: Sequence[list[int]]) -> int:
    """Length of the longest prefix all sequences share, short of any sequence's last token."""
    # The smallest and the largest sequence differ first where any two do.
    first, last = min(sequences), max(sequences)
    limit = min(len(s) for s in sequences) - 1
    length = 0
    while length < limit and first[length] == last[length]:
        length += 1
    return length
