"""Both losses equal short references in float64, gradients included, however the batch is computed."""

from __future__ import annotations

import gc
import math
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.losses import ABSENT, GroupCrossEntropy, InfoNCE

VOCABULARY, SIZE = 40, 6


class Toy(nn.Module):
    """Texts to unit vectors or logits by a small float64 network that ignores padding."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.words = nn.Embedding(VOCABULARY, 8)
        self.out = nn.Linear(8, size)
        self.size = size
        self.double()

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"][:, :, None]
        pooled = (torch.tanh(self.words(features["input_ids"])) * mask).sum(1) / mask.sum(1)
        out = self.out(pooled)
        return {"sentence_embedding": nn.functional.normalize(out, dim=-1) if self.size > 1 else out}


def column(texts: int, seed: int) -> dict[str, Tensor]:
    """Random texts of 1 to 9 tokens, longest first."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (texts,), generator=generator).sort(descending=True).values
    ids = torch.randint(0, VOCABULARY, (texts, int(lengths[0])), generator=generator)
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


def batch(rows: int, group: int, seed: int, *, documents: int = 10) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A retriever batch over few documents, so that they repeat; some negatives are absent."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randperm(documents, generator=generator)[:group] for _ in range(rows)])
    places = ids + rows
    ids = ids.clone()
    ids[:, 1:][torch.rand(rows, group - 1, generator=generator) < 0.2] = ABSENT
    relevant = torch.full((rows, 2), ABSENT)
    relevant[:, 0] = ids[:, 0]
    relevant[::2, 1] = torch.randint(0, documents, (len(relevant[::2]),), generator=generator)
    labels = {"query": torch.arange(rows), "documents": places, "ids": ids, "relevant": relevant}
    return column(rows + documents, seed), labels


def reference_info_nce(
    model: Toy, features: dict[str, Tensor], labels: dict[str, Tensor], temperature: float
) -> Tensor:
    """InfoNCE as one writes it on paper: one row, one candidate at a time."""
    vectors = model(features)["sentence_embedding"]
    total = torch.zeros((), dtype=vectors.dtype)
    rows, group = labels["ids"].shape
    for i in range(rows):
        query = vectors[labels["query"][i]]
        positive = query @ vectors[labels["documents"][i, 0]] / temperature
        terms = [positive]
        for j in range(rows):
            for g in range(group):
                document = int(labels["ids"][j, g])
                if (j, g) == (i, 0) or document == ABSENT or document in labels["relevant"][i].tolist():
                    continue
                terms.append(query @ vectors[labels["documents"][j, g]] / temperature)
        total = total + torch.logsumexp(torch.stack(terms), dim=0) - positive
    return total / rows


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("caching", [False, True])
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), group=st.integers(1, 4), seed=st.integers(0, 10_000), budget=st.integers(1, 200))
def test_info_nce_equals_its_definition(caching: bool, rows: int, group: int, seed: int, budget: int) -> None:
    features, labels = batch(rows, group, seed)
    expected_model, model = Toy(), Toy()
    expected = reference_info_nce(expected_model, features, labels, 0.05)
    loss = InfoNCE(model, temperature=0.05, mini_batch_tokens=budget, caching=caching)([features], labels)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)
    if rows * group > 1 and expected.requires_grad and expected.item() != 0:
        expected.backward()
        loss.backward()
        for ours, reference in zip(gradients(model), gradients(expected_model), strict=True):
            torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 5), group=st.integers(2, 5), seed=st.integers(0, 10_000), budget=st.integers(1, 200))
def test_group_cross_entropy_equals_its_definition(
    caching: bool, weight: float, rows: int, group: int, seed: int, budget: int
) -> None:
    features = column(rows * group, seed)
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(rows * group, generator=generator).reshape(rows, group)
    ids = pairs.clone()
    ids[0, -1] = ABSENT
    opinions = torch.rand(rows, group, generator=generator, dtype=torch.float64)
    expected_model, model = Toy(size=1), Toy(size=1)
    logits = expected_model(features)["sentence_embedding"][:, 0]
    per_row = []
    for i in range(rows):
        present = [g for g in range(group) if ids[i, g] != ABSENT]
        scores = torch.stack([logits[pairs[i, g]] for g in present])
        # The target: a mixture of the label, which is the first, and of the teacher's softmax over those present.
        beliefs = [math.exp(opinions[i, g] / 0.2) for g in present]
        target = [weight * belief / sum(beliefs) + (1 - weight) * (g == 0) for g, belief in enumerate(beliefs)]
        surprises = torch.logsumexp(scores, dim=0) - scores
        per_row.append(sum(share * surprise for share, surprise in zip(target, surprises, strict=True)))
    expected = torch.stack(per_row).mean()
    labels = {"pairs": pairs, "ids": ids} | ({"teacher": opinions} if weight else {})
    loss = GroupCrossEntropy(
        model, teacher_weight=weight, teacher_temperature=0.2, mini_batch_tokens=budget, caching=caching
    )([features], labels)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)
    expected.backward()
    loss.backward()
    for ours, reference in zip(gradients(model), gradients(expected_model), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-6)


def row_losses(features: dict[str, Tensor], labels: dict[str, Tensor]) -> list[float]:
    """The loss of each row of a batch on its own."""
    losses = []
    for i in range(len(labels["query"])):
        vectors = Toy()(features)["sentence_embedding"]
        alone = InfoNCE(Toy(), temperature=0.05, caching=False)
        order = [i, *(j for j in range(len(labels["query"])) if j != i)]
        turned = {name: tensor[order] for name, tensor in labels.items()}
        scores_of_first = alone.loss_of(vectors, turned)
        others = alone.loss_of(vectors, {name: tensor[order[1:]] for name, tensor in labels.items()})
        losses.append((scores_of_first.item(), others.item()))
    return losses


def test_masking_by_id_changes_only_rows_whose_positive_is_another_rows_candidate() -> None:
    features = column(3 + 6, seed=1)
    documents = torch.tensor([[3, 4], [3, 5], [6, 7]])  # rows 0 and 1 share their positive
    labels = {"query": torch.arange(3), "documents": documents, "ids": documents, "relevant": documents[:, :1]}
    unmasked = labels | {"relevant": torch.full((3, 1), ABSENT)}
    vectors = Toy()(features)["sentence_embedding"]
    scores = vectors[:3] @ vectors[documents.flatten()].T / 0.05
    target = torch.tensor([0, 2, 4])
    per_row = nn.functional.cross_entropy(scores, target, reduction="none")
    masked_scores = scores.clone()
    masked_scores[0, 2] = masked_scores[1, 0] = -torch.inf
    masked_per_row = nn.functional.cross_entropy(masked_scores, target, reduction="none")
    loss = InfoNCE(Toy(), temperature=0.05, caching=False)
    torch.testing.assert_close(loss([features], unmasked), per_row.mean())
    torch.testing.assert_close(loss([features], labels), masked_per_row.mean())
    assert (masked_per_row != per_row).tolist() == [True, True, False]


def test_scores_are_float32_when_the_model_gives_bfloat16() -> None:
    features, labels = batch(4, 3, seed=2)

    class Rounded(Toy):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sentence_embedding": super().forward(features)["sentence_embedding"].bfloat16()}

    assert InfoNCE(Rounded(), caching=True)([features], labels).dtype == torch.float32


def _one_process(rank: int, world: int, port: int, folder: str, caching: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    _one_step(rank, folder, caching)
    gc.collect()  # the model first: what is left of it would wait for the group for ever
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _one_step(rank: int, folder: str, caching: bool) -> None:
    model = DistributedDataParallel(Toy())
    features, labels = batch(4, 3, seed=10 + rank)
    loss = InfoNCE(model, temperature=0.05, mini_batch_tokens=20, caching=caching)([features], labels)
    loss.backward()
    torch.save({"loss": loss.detach(), "gradients": gradients(model)}, Path(folder) / f"{rank}.pt")


@pytest.mark.parametrize("caching", [False, True])
def test_two_processes_see_each_others_documents(tmp_path: Path, caching: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_process, args=(2, port, str(tmp_path), caching), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    # The same eight rows in one process: texts of both, places of the second shifted behind the first's.
    model = Toy()
    halves = [batch(4, 3, seed=10 + rank) for rank in range(2)]
    vectors = [model(features)["sentence_embedding"] for features, _ in halves]
    shift = len(vectors[0])
    labels = {name: torch.cat([half[name] for _, half in halves]) for name in halves[0][1]}
    for name in ("query", "documents"):
        labels[name] = torch.cat([halves[0][1][name], halves[1][1][name] + shift])
    expected = InfoNCE(model, temperature=0.05, caching=False).loss_of(torch.cat(vectors), labels)
    expected.backward()
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, expected.detach())
    for ours, reference in zip(ranks[0]["gradients"], gradients(model), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-6, rtol=1e-6)
