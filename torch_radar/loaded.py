"""A model in memory: token ids to hidden states, vectors and logits."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from torch_radar.checkpoints import Pooling

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

HEADS = ("score", "classifier")
"""Names of a reranker's head."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        model: The module, in evaluation mode, on ``device`` in ``dtype``; a reranker has a ``score`` head.
        tokenizer: Its tokenizer.
        device: Where it runs.
        dtype: The precision of its weights and activations.
        is_causal: Whether a token's hidden state ignores later tokens, as measured on this module.
        dimension: Size of a hidden state.
        max_positions: The most tokens it can read.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    is_causal: bool
    dimension: int
    max_positions: int

    @property
    def backbone(self) -> PreTrainedModel:
        """The transformer below a reranker's head, or the model itself."""
        return getattr(self.model, self.model.base_model_prefix, self.model)

    @property
    def head(self) -> str | None:
        """Name of a reranker's head: ``"score"`` reads the last token, ``"classifier"`` the first."""
        return next((name for name in HEADS if hasattr(self.model, name)), None)

    def states(
        self, ids: torch.Tensor, mask: torch.Tensor | None = None, past: DynamicCache | None = None
    ) -> torch.Tensor:
        """Returns the last hidden states (n, tokens, dimension) of ids (n, tokens); ``past`` grows by them."""
        caching: dict[str, Any] = {"use_cache": past is not None} if hasattr(self.model.config, "use_cache") else {}
        if past is not None:
            # Newer transformers have it by another name and warn of the old one.
            parameters = inspect.signature(self.backbone.forward).parameters
            caching["cache" if "cache" in parameters else "past_key_values"] = past
        return self.backbone(input_ids=ids, attention_mask=mask, **caching).last_hidden_state

    def vectors(self, ids: torch.Tensor, lengths: torch.Tensor, pooling: Pooling) -> torch.Tensor:
        """Returns float32 unit vectors (n, dimension) of right-padded ids (n, longest)."""
        if pooling == "last_token":
            pooled = self.last_token_states(ids, lengths).float()
        elif pooling == "cls":
            pooled = self.states(ids, _mask(ids, lengths))[:, 0].float()
        else:
            mask = _mask(ids, lengths)
            pooled = (self.states(ids, mask).float() * mask[:, :, None]).sum(dim=1) / lengths[:, None]
        return normalize(pooled, dim=-1)

    def logits(self, ids: torch.Tensor, lengths: torch.Tensor, past: DynamicCache | None = None) -> torch.Tensor:
        """Returns float32 relevance logits (n,) of right-padded pairs (n, longest)."""
        if self.head == "score":
            return self.model.get_submodule("score")(self.last_token_states(ids, lengths, past)).float()[:, 0]
        return self.model(input_ids=ids, attention_mask=_mask(ids, lengths)).logits.float()[:, 0]

    def last_token_states(
        self, ids: torch.Tensor, lengths: torch.Tensor, past: DynamicCache | None = None
    ) -> torch.Tensor:
        """Returns the last hidden state (n, dimension) of each right-padded row's last token, which is all that counts.

        A causal model's state at the last real token cannot see the padding behind it: no mask is exact, and lets
        attention take its fused causal kernel. In the last layer no other token's state is read again, so its
        feed-forward runs on these n tokens alone: what it gives is added to every position of its row, and is right
        at the one that is read.
        """
        mask = None if self.is_causal else _mask(ids, lengths)
        places = torch.arange(len(ids), device=ids.device), lengths - 1
        # Recomputed in the backward pass, a layer would not know these places any more.
        recomputed = self.backbone.training and self.backbone.is_activation_checkpointing
        narrowed = _read_alone.set(None if recomputed else places)
        try:
            return self.states(ids, mask, past)[places]
        finally:
            _read_alone.reset(narrowed)


# The (rows, positions) whose last hidden states alone are read, in the thread that reads them.
_read_alone: ContextVar[tuple[torch.Tensor, torch.Tensor] | None] = ContextVar("_read_alone", default=None)


def narrow_last_feed_forward(backbone: PreTrainedModel) -> None:
    """Has the last layer's feed-forward run on the tokens that :meth:`LoadedModel.last_token_states` reads, if so."""
    feed_forward = getattr(getattr(backbone, "layers", [None])[-1], "mlp", None)
    if feed_forward is not None:
        feed_forward.register_forward_pre_hook(_only_what_is_read)


def _only_what_is_read(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
    places = _read_alone.get()
    return None if places is None else (inputs[0][places][:, None],)


def _mask(ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """1 at the tokens of right-padded ids (n, longest), 0 at the padding."""
    return (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
