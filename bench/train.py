"""Training speed and memory against the library's own trainer, with the same batches and the same loss.

A random Qwen2-shaped retriever (full fine-tuning, float32) learns from real texts of mixed lengths: consecutive texts
of a file stand in for query, positive and negatives. The peer is ``SentenceTransformerTrainer`` with
``MultipleNegativesRankingLoss``, and with its GradCache variant; all see the same rows in the same order.

    python bench/train.py --docs stacks.jsonl.gz --steps 2 --batch 12     # a quarter of an hour on two cores
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from encode import DEMO, library_model, make_checkpoint
from harness import interleave, read_texts, report, timed

LENGTH = 512
SYSTEMS = ["library", "library-cached", "radar", "radar-cached"]


def rows(texts: list[str], group: int) -> list[list[str]]:
    """Query, positive and negatives of every row."""
    return [texts[start : start + 1 + group] for start in range(0, len(texts) - group, 1 + group)]


def train_with_library(folder: Path, texts: list[str], options: argparse.Namespace, cached: bool) -> float:
    """The peer, reading the same tokens: prompts, EOS, last-token pooling."""
    from datasets import Dataset
    from sentence_transformers.sentence_transformer import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from torch.utils.data import BatchSampler, SequentialSampler

    model = library_model(folder, LENGTH)
    names = ["query", "positive", *(f"negative_{i}" for i in range(1, options.group))]
    columns = zip(*rows(texts, options.group), strict=True)
    dataset = Dataset.from_dict({name: list(column) for name, column in zip(names, columns, strict=True)})
    prompts = {name: "query: " if name == "query" else "document: " for name in names}
    loss: Any = MultipleNegativesRankingLoss(model, scale=20.0)
    if cached:
        loss = CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=8)

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
            return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "library"),
        per_device_train_batch_size=options.batch,
        max_steps=options.steps,
        prompts=prompts,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = InOrder(model=model, args=arguments, train_dataset=dataset, loss=loss)
    return timed(trainer.train)[0]


def train_with_radar(folder: Path, texts: list[str], options: argparse.Namespace, cached: bool) -> float:
    """Ours, by a recipe; what is timed is the training alone, as for the peer."""
    from training import run
    from training.data import Example, Negative, write_examples
    from training.recipe import Recipe

    examples, documents = [], {}
    for number, (query, *group) in enumerate(rows(texts, options.group)):
        docnos = [f"{number}-{place}" for place in range(len(group))]
        documents |= dict(zip(docnos, group, strict=True))
        negatives = tuple(Negative(docno, "bench") for docno in docnos[1:])
        examples.append(Example(str(number), query, "question", docnos[0], negatives, (), {}))
    name = "radar-cached" if cached else "radar"
    data = folder / f"{name}.jsonl"
    with (folder / f"{name}.documents.jsonl").open("w") as file:
        file.writelines(json.dumps({"docno": docno, "text": text}) + "\n" for docno, text in documents.items())
    write_examples(data, examples)
    recipe = folder / f"{name}.yaml"
    recipe.write_text(
        json.dumps(
            {
                "kind": "retriever",
                "base": {"name": str(folder), "template": "query-document", "pooling": "last_token"},
                "lora": None,
                "data": [{"path": str(data), "documents": [str(folder / f"{name}.documents.jsonl")]}],
                "batch_queries": options.batch,
                "group_size": options.group,
                "temperature": 0.05,
                "max_steps": options.steps,
                "caching": cached,
                "mini_batch_tokens": 1024,
                "max_query_tokens": LENGTH,
                "max_document_tokens": LENGTH,
                "precision": "float32",
                "learning_rate": 5e-5,
                "save_every": 10_000,
            }
        )
    )
    run.plan_rows = lambda weights, **_: np.arange(len(weights))  # in order, as the peer reads them
    return timed(lambda: run.train(Recipe.load(recipe), folder / name))[0]


def main() -> None:
    """Runs the comparison and prints the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", nargs="+", default=[str(DEMO)])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--system")
    parser.add_argument("--folder")
    options = parser.parse_args()
    texts = read_texts(options.docs, options.steps * options.batch * (1 + options.group))
    if options.system:
        family, _, cached = options.system.partition("-")
        work = train_with_library if family == "library" else train_with_radar
        with tempfile.TemporaryDirectory() as own:
            folder = Path(own)
            for path in Path(options.folder).iterdir():
                (folder / path.name).symlink_to(path)
            seconds = work(folder, texts, options, bool(cached))
            return report(seconds=round(seconds, 2))
    with tempfile.TemporaryDirectory() as name:
        make_checkpoint(Path(name), texts, options.layers, options.hidden, 8 / 3)
        print(f"{options.steps} steps of {options.batch} queries × {options.group} documents")
        shape = [f"--{key}={getattr(options, key)}" for key in ("steps", "batch", "group")]
        medians = interleave(__file__, SYSTEMS, options.rounds, ["--folder", name, *shape, "--docs", *options.docs])
    for ours in SYSTEMS[2:]:
        for peer in SYSTEMS[:2]:
            for figure in ("seconds", "peak_mib"):
                print(f"{figure}: {peer} / {ours} = {medians[peer][figure] / medians[ours][figure]:.2f}")


if __name__ == "__main__":
    main()
