"""The two losses of RaDeR (§5), over a batch that is one column of distinct texts.

A batch's texts go through the model in mini-batches of a token budget, longest first; the loss then picks its rows
by index. With ``caching`` that is GradCache (the library's :class:`CachedLossMixin`): a forward pass without graph,
the gradient of every output, and a second forward pass that carries it back, so that memory is one mini-batch's.
Without it, the graphs of all mini-batches are kept and the second pass is saved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin, _minibatch_ranges
from sentence_transformers.util import all_gather, all_gather_with_grad, is_dist_initialized
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ABSENT = -1
"""The document id of a place that holds no document."""


class _OneColumnLoss(CachedLossMixin, nn.Module):
    def __init__(self, model: nn.Module, *, mini_batch_tokens: int, caching: bool) -> None:
        super().__init__()
        self.model = model
        self.mini_batch_num_tokens = mini_batch_tokens
        self.mini_batch_size = 1  # not used: mini-batches are cut by tokens
        self.uses_gradient_cache = caching

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: dict[str, Tensor]) -> Tensor:
        """Returns the mean loss of a batch, a scalar.

        Args:
            sentence_features: One column: ``input_ids`` and ``attention_mask`` (texts, longest), longest text first.
            labels: The collator's index tensors; see the subclasses.
        """
        (column,) = sentence_features
        if self.uses_gradient_cache:
            return self.forward_cached([column], labels)  # type: ignore[arg-type]
        ranges = _minibatch_ranges(column, self.mini_batch_size, self.mini_batch_num_tokens)
        outputs = [
            self.embed_minibatch(column, begin, end, with_grad=torch.is_grad_enabled(), copy_random_state=False)[0]
            for begin, end in ranges
        ]
        return self.calculate_loss([outputs], labels)

    def calculate_loss(self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Returns the loss from the outputs of every mini-batch; see :class:`CachedLossMixin`."""
        outputs = torch.cat(reps[0])
        # Scores are float32 whatever the model computes in; float64 stays.
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        loss = self.loss_of(outputs, labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def loss_of(self, outputs: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Returns the loss, a scalar, of the outputs (texts, size) of a batch."""
        raise NotImplementedError


class InfoNCE(_OneColumnLoss):
    """Contrastive loss over a query's positive, its hard negatives, and all documents of the other queries.

    A candidate that is relevant to the query (the same document in another row, or a known further positive) is no
    negative: its score is left out of the softmax.

    Labels: ``query`` int64 (rows,), places of the queries among the texts; ``documents`` int64 (rows, group), places
    of positive (first) and negatives; ``ids`` int64 (rows, group), ids of these documents, :data:`ABSENT` where a row
    has fewer negatives; ``relevant`` int64 (rows, any), ids of every document relevant to the query, padded with
    :data:`ABSENT`.

    Args:
        model: Texts to unit vectors.
        temperature: Cosines are divided by it; 0.01 in RaDeR.
        in_batch_negatives: Whether other rows' documents count as negatives.
        mini_batch_tokens: Tokens that go through the model at once.
        caching: Whether to save memory by GradCache.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        temperature: float = 0.01,
        in_batch_negatives: bool = True,
        mini_batch_tokens: int = 8192,
        caching: bool = True,
    ) -> None:
        super().__init__(model, mini_batch_tokens=mini_batch_tokens, caching=caching)
        self.temperature = temperature
        self.in_batch_negatives = in_batch_negatives

    def loss_of(self, outputs: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Returns the loss of unit vectors (texts, dimension)."""
        queries = outputs[labels["query"]]
        documents, ids = outputs[labels["documents"]], labels["ids"]
        if not self.in_batch_negatives:
            scores = torch.einsum("rd,rgd->rg", queries, documents) / self.temperature
            return cross_entropy(scores.masked_fill(ids == ABSENT, -torch.inf), torch.zeros_like(ids[:, 0]))
        rows, group = ids.shape
        row = torch.arange(rows, device=ids.device)
        target = row * group
        if is_dist_initialized():
            target += torch.distributed.get_rank() * rows * group
            documents, ids = all_gather_with_grad(documents.contiguous()), all_gather(ids.contiguous())
        scores = queries @ documents.flatten(0, 1).T / self.temperature
        left_out = (ids.flatten() == ABSENT).repeat(rows, 1)
        for relevant in labels["relevant"].T:
            left_out |= ids.flatten() == relevant[:, None]
        left_out[row, target] = False
        return cross_entropy(scores.masked_fill(left_out, -torch.inf), target)


class GroupCrossEntropy(_OneColumnLoss):
    """Softmax over the logits of a query's positive and its negatives, as in RankLLaMA and RaDeR's reranker.

    With a teacher, part of the target is the teacher's softmax over the same group (knowledge distillation,
    https://arxiv.org/abs/1503.02531), which also says how wrong each negative is.

    Labels: ``pairs`` int64 (rows, group), places of the pairs among the texts, the positive first; ``ids`` int64
    (rows, group), :data:`ABSENT` where a row has fewer negatives; ``teacher`` float32 (rows, group), the teacher's
    scores, where there is one.

    Args:
        model: Texts to logits (texts, 1).
        teacher_weight: Part of the target that is the teacher's; 0 is the label alone.
        teacher_temperature: What the teacher's scores are divided by.
        mini_batch_tokens: Tokens that go through the model at once.
        caching: Whether to save memory by GradCache.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        teacher_weight: float = 0.0,
        teacher_temperature: float = 1.0,
        mini_batch_tokens: int = 8192,
        caching: bool = True,
    ) -> None:
        super().__init__(model, mini_batch_tokens=mini_batch_tokens, caching=caching)
        self.teacher_weight = teacher_weight
        self.teacher_temperature = teacher_temperature

    def loss_of(self, outputs: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Returns the loss of logits (texts, 1)."""
        absent = labels["ids"] == ABSENT
        scores = outputs[:, 0][labels["pairs"]].masked_fill(absent, -torch.inf)
        loss = cross_entropy(scores, torch.zeros_like(labels["ids"][:, 0]))
        if not self.teacher_weight:
            return loss
        opinion = (labels["teacher"].to(scores) / self.teacher_temperature).masked_fill(absent, -torch.inf)
        surprise = -scores.log_softmax(dim=1).masked_fill(absent, 0)
        distilled = (opinion.softmax(dim=1) * surprise).sum(dim=1).mean()
        return (1 - self.teacher_weight) * loss + self.teacher_weight * distilled
