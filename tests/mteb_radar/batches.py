"""What mteb hands a model, made small."""

from __future__ import annotations

from datasets import Dataset
from mteb.abstasks.task_metadata import TaskMetadata
from torch.utils.data import DataLoader

METADATA = TaskMetadata(
    name="Anything",
    description="For tests.",
    type="Retrieval",
    category="t2t",
    dataset={"path": "local/anything", "revision": "1"},
    eval_langs=["eng-Latn"],
    main_score="ndcg_at_10",
)
WHERE = {"hf_split": "test", "hf_subset": "default"}


def loader(texts: list[str]) -> DataLoader:
    return DataLoader(Dataset.from_dict({"text": texts}), batch_size=3)
