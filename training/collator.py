"""Rows of a training set to one column of distinct token sequences, in the text forms that torch_radar serves.

Every text of a batch is tokenised once, however often it occurs; the longest goes first, so that mini-batches cut from
the column hold texts of similar length.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_radar.checkpoints import Checkpoint
from torch_radar.templates import PairTemplate, TextTemplate, frame_pairs, frame_texts, framing
from training.data import Example, TrainingSet
from training.losses import ABSENT
from training.plan import choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.negatives import ScoringMiner


class _Column:
    """Distinct token sequences, collected by key and laid out longest first."""

    def __init__(self) -> None:
        self._sequences: dict[Hashable, tuple[int, ...]] = {}

    def add(self, key: Hashable, sequence: list[int]) -> None:
        self._sequences[key] = tuple(sequence)

    def tensors(self) -> tuple[dict[str, Tensor], dict[Hashable, int]]:
        """The column's features, and the place of each key in it."""
        distinct = sorted(dict.fromkeys(self._sequences.values()), key=lambda sequence: -len(sequence))
        place = {sequence: number for number, sequence in enumerate(distinct)}
        lengths = torch.tensor([len(sequence) for sequence in distinct])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(sequence) for sequence in distinct], batch_first=True)
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        features = {"text_input_ids": ids, "text_attention_mask": mask}
        return features, {key: place[sequence] for key, sequence in self._sequences.items()}


class _Collator:
    valid_label_columns = ("label",)

    def __init__(
        self,
        training_set: TrainingSet,
        tokenizer: PreTrainedTokenizerBase,
        checkpoint: Checkpoint,
        *,
        group_size: int,
        seed: int,
    ) -> None:
        self.training_set = training_set
        self.tokenizer = tokenizer
        self.checkpoint = checkpoint
        self.group_size = group_size
        self.seed = seed
        self.frame = framing(tokenizer, ends_with_eos=checkpoint.ends_with_eos)

    def _groups(self, rows: list[dict[str, Any]]) -> list[tuple[Example, list[str]]]:
        """Per row, the example and the docnos of its group, the positive first."""
        groups = []
        for row in rows:
            example = self.training_set[row["row"]]
            count = len(example.negatives)
            chosen = choose(count, self.group_size - 1, seed=self.seed, position=row["position"])
            groups.append((example, [example.positive, *(example.negatives[i].docno for i in chosen)]))
        return groups

    def _ids(self, docnos: Iterable[str]) -> list[int]:
        """Numbers that two documents share exactly if their texts are equal; docnos without a text are left out."""
        digests = map(self.training_set.documents.text_digest, docnos)
        return [digest >> 1 for digest in digests if digest is not None]  # uint64 to a non-negative int64


class RetrieverCollator(_Collator):
    """Rows ``{"row", "position"}`` to the column and labels of :class:`training.losses.InfoNCE`.

    Args:
        training_set: Where row numbers point.
        tokenizer: The checkpoint's.
        checkpoint: Its template and pooling.
        max_query_tokens: Longer queries lose their end.
        max_document_tokens: Longer documents lose their end.
        group_size: One positive and this many less one negatives, at most.
        seed: Of the choice among more negatives than that.
    """

    def __init__(self, *args: Any, max_query_tokens: int, max_document_tokens: int, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.max_query_tokens = max_query_tokens
        self.max_document_tokens = max_document_tokens

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns ``text_input_ids``, ``text_attention_mask`` int64 (texts, longest), and ``label``."""
        template = self.checkpoint.template
        assert isinstance(template, TextTemplate)
        groups = self._groups(rows)
        queries = list(dict.fromkeys(example.query for example, _ in groups))
        docnos = list(dict.fromkeys(docno for _, group in groups for docno in group))
        strings = [template.query(query) for query in queries]
        column = _Column()
        framed = frame_texts(self.tokenizer, strings, self.frame, self.max_query_tokens)
        for query, ids in zip(queries, framed, strict=True):
            column.add(("query", query), ids)
        strings = [template.document(self.training_set.documents.text(docno)) for docno in docnos]
        framed = frame_texts(self.tokenizer, strings, self.frame, self.max_document_tokens)
        for docno, ids in zip(docnos, framed, strict=True):
            column.add(("document", docno), ids)
        features, places = column.tensors()
        relevant = [self._ids([e.positive, *e.also_relevant]) for e, _ in groups]
        return features | {
            "label": {
                "query": torch.tensor([places["query", example.query] for example, _ in groups]),
                "documents": _table(
                    [[places["document", d] for d in group] for _, group in groups], self.group_size, 0
                ),
                "ids": _table([self._ids(group) for _, group in groups], self.group_size, ABSENT),
                "relevant": _table(relevant, max(map(len, relevant)), ABSENT),
            }
        }


class RerankerCollator(_Collator):
    """Rows ``{"row", "position"}`` to the column and labels of :class:`training.losses.GroupCrossEntropy`.

    Args:
        training_set: Where row numbers point.
        tokenizer: The checkpoint's.
        checkpoint: Its pair template.
        max_pair_tokens: A longer pair loses the end of its document.
        group_size: One positive and this many less one negatives, at most.
        seed: Of the choice among more negatives than that.
        teacher: Scores the documents of each group too, if given.
    """

    def __init__(self, *args: Any, max_pair_tokens: int, teacher: ScoringMiner | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.max_pair_tokens = max_pair_tokens
        self.teacher = teacher

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns ``text_input_ids``, ``text_attention_mask`` int64 (pairs, longest), and ``label``."""
        template = self.checkpoint.template
        assert isinstance(template, PairTemplate)
        groups = self._groups(rows)
        keys = list(dict.fromkeys((example.query, docno) for example, group in groups for docno in group))
        pairs = [(query, self.training_set.documents.text(docno)) for query, docno in keys]
        column = _Column()
        framed = frame_pairs(self.tokenizer, pairs, template, self.frame, self.max_pair_tokens)
        for key, ids in zip(keys, framed, strict=True):
            column.add(key, ids)
        features, places = column.tensors()
        label = {
            "pairs": _table([[places[e.query, d] for d in group] for e, group in groups], self.group_size, 0),
            "ids": _table([self._ids(group) for _, group in groups], self.group_size, ABSENT),
        }
        if self.teacher is not None:
            scores = self.teacher.scores([example.query for example, _ in groups], [group for _, group in groups])
            label["teacher"] = _table(scores, self.group_size, 0.0)
        return features | {"label": label}


def _table(rows: Sequence[Sequence[float]], width: int, filler: float) -> Tensor:
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
