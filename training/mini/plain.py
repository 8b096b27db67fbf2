"""The plain recipe, whose average ships as radar-mini: the library's loss and trainer as its documentation has them.

Same base, same pairs in the same order, same number of updates of the same size; all weights at a rate of 2e-5, texts
of 128 tokens, in-batch negatives alone and unmasked. The recipe ``radar-mini`` is this in the terms of this package,
but for the masks; a test has both learn the same weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch.utils.data import BatchSampler, SequentialSampler

from torch_radar.checkpoints import MINILM, RADAR_JSON, save_radar_json
from torch_radar.loading import choose_device, weights_folder
from training.data import TrainingSet


class _InOrder(SentenceTransformerTrainer):
    def get_batch_sampler(  # type: ignore[override]
        self, dataset: Any, batch_size: int, drop_last: bool, **_: Any
    ) -> BatchSampler:
        return BatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)


def train_plain(training_set: TrainingSet, rows: np.ndarray, batch: int, seed: int, output: Path) -> Path:
    """Trains MiniLM on the (query, positive) pairs of the rows.

    Returns:
        ``output``, which torch_radar loads by its folder.
    """
    if (output / RADAR_JSON).is_file():
        return output
    examples = [training_set[int(row)] for row in rows]
    pairs = Dataset.from_dict(
        {
            "query": [example.query for example in examples],
            "positive": [training_set.documents.text(example.positive) for example in examples],
        }
    )
    device = choose_device()
    model = SentenceTransformer(str(weights_folder(MINILM.name)), device=str(device))
    model.max_seq_length = 128
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(output / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=batch,
        learning_rate=2e-5,
        warmup_steps=0.1,
        seed=seed,
        use_cpu=device.type == "cpu",
        save_strategy="no",
        report_to="none",
        logging_steps=10,
    )
    _InOrder(model=model, args=arguments, train_dataset=pairs, loss=MultipleNegativesRankingLoss(model)).train()
    model.save(str(output))
    save_radar_json(output, replace(MINILM, base=MINILM.name))
    return output
