"""A random 7B-shaped retriever on one GPU: tokens a second, and the share of the GPU's matrix rate that they are.

The matrix rate is measured first: a product of random bfloat16 matrices, 8,192 a side. Encoding is compared with
``SentenceTransformer.encode``, same weights, same 200-token documents; both models share the process and run in turn.
Training follows the recipe ``one-gpu`` (LoRA, 12 documents a query, GradCache), with and without recomputing
activations, on texts of mixed lengths.

    python bench/gpu.py encode --docs stacks.jsonl.gz
    python bench/gpu.py train --docs stacks.jsonl.gz

A share counts 2 operations for a weight and a token in a forward pass, and as many for what is passed back to the
activations; attention and adapters are left out. Of training there are three: ``needed`` counts one forward and one
backward pass, ``done`` also the passes that GradCache and recomputing repeat, ``6N`` what full fine-tuning would need.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from encode import DEMO, library_model
from harness import read_texts

TOKENS = 200
SHAPE = {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4}


def matrix_rate(size: int = 8192, times: int = 20) -> float:
    """Operations a second of a square bfloat16 product."""
    first, second = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        first @ second
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        first @ second
    end.record()
    torch.cuda.synchronize()
    return 2 * size**3 * times / (start.elapsed_time(end) / 1000)


def make_checkpoint(folder: Path, texts: list[str], layers: int) -> int:
    """Saves a random retriever of Qwen2.5-7B's shape in bfloat16; returns how many weights a token meets."""
    from transformers import Qwen2Config, Qwen2Model, Qwen2Tokenizer

    from torch_radar.checkpoints import Checkpoint, save_radar_json
    from torch_radar.templates import QUERY_DOCUMENT

    blank = Qwen2Tokenizer(pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token="<|endoftext|>")
    tokenizer = blank.train_new_from_iterator(texts, vocab_size=8000)
    config = Qwen2Config(
        vocab_size=152064,
        num_hidden_layers=layers,
        max_position_embeddings=32768,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=SHAPE["hidden_size"] ** -0.5,
        dtype=torch.bfloat16,
        **SHAPE,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2Model(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="5GB")
    tokenizer.save_pretrained(folder)
    save_radar_json(folder, Checkpoint(str(folder), "retriever", QUERY_DOCUMENT, "last_token", max_tokens=4096))
    return sum(p.numel() for p in model.parameters()) - model.embed_tokens.weight.numel()


def encode(folder: Path, texts: list[str], weights: int, rate: float, options: argparse.Namespace) -> None:
    """Prints the speed of both encoders, and their ratio last."""
    from torch_radar.encoder import Encoder

    draw = random.Random(0)
    documents = [" ".join(draw.sample(texts, 8)) for _ in range(options.texts)]  # cut at TOKENS
    peer = library_model(folder, TOKENS, device="cuda", dtype=torch.bfloat16)
    ours = Encoder(folder, max_document_tokens=TOKENS)
    systems: dict[str, Any] = {
        "sentence-transformers": lambda: peer.encode(documents, prompt_name="document", batch_size=options.batch),
        "radar": lambda: ours.encode_documents(documents),
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    vectors: dict[str, np.ndarray] = {}
    for number in range(options.rounds + 1):  # the first warms up
        for name, work in systems.items():
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            start = time.perf_counter()
            vectors[name] = work()
            taken = time.perf_counter() - start
            speed = len(documents) * TOKENS / taken
            peak = (torch.cuda.max_memory_allocated() - held) / 2**30
            share = 2 * weights * speed / rate
            print(f"round {number} {name:>22}: {speed:,.0f} tokens/s, {share:.1%}, {peak:.2f} GiB of activations")
            if number:
                seconds[name].append(taken)
    cosines = (vectors["radar"] * vectors["sentence-transformers"]).sum(axis=1)
    print(f"smallest cosine between the two {cosines.min():.5f}")
    middle = {name: median(taken) for name, taken in seconds.items()}
    for name, taken in middle.items():
        speed = len(documents) * TOKENS / taken
        print(f"{name}: {speed:,.0f} tokens/s, {2 * weights * speed / rate:.1%} of the matrix rate")
    print(f"seconds: sentence-transformers / radar = {middle['sentence-transformers'] / middle['radar']:.2f}")


def train(folder: Path, texts: list[str], weights: int, rate: float, options: argparse.Namespace) -> None:
    """Prints the speed of training by the recipe, with and without recomputed activations."""
    from training import run
    from training.data import Example, Negative, write_examples
    from training.recipe import Recipe

    draw = random.Random(0)
    group = 12
    examples, documents = [], {}
    for number in range(options.queries * options.steps):
        # One document in ten is long, so that mini-batches of every shape are met.
        some = [" ".join(draw.sample(texts, 20 if draw.random() < 0.1 else 1)) for _ in range(group)]
        docnos = [f"{number}-{place}" for place in range(group)]
        documents |= dict(zip(docnos, some, strict=True))
        negatives = tuple(Negative(docno, "bench") for docno in docnos[1:])
        examples.append(Example(str(number), draw.choice(texts), "question", docnos[0], negatives, (), {}))
    data, corpus = folder / "rows.jsonl", folder / "documents.jsonl"
    corpus.write_text("".join(json.dumps({"docno": d, "text": t}) + "\n" for d, t in documents.items()))
    write_examples(data, examples)
    clocks: list[float] = []
    tokens: list[int] = []

    class Clock(run.ProgressBar):
        def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
            super().on_train_begin(*arguments, **keywords)
            clocks.append(time.perf_counter())

        def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
            super().on_step_end(*arguments, **keywords)
            torch.cuda.synchronize()
            clocks.append(time.perf_counter())

    make_collator = run._collator

    def counting(*arguments: Any) -> Any:
        collate = make_collator(*arguments)

        def count(rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch = collate(rows)
            tokens.append(int(batch["text_attention_mask"].sum()))
            return batch

        count.valid_label_columns = collate.valid_label_columns  # type: ignore[attr-defined]
        return count

    run.ProgressBar, run._collator = Clock, counting  # type: ignore[misc]
    run.plan_rows = lambda weights, **_: np.arange(len(weights))
    for recomputing, budget in ((True, 8192), (False, 4096)):
        clocks.clear()
        tokens.clear()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        overrides = [
            f"base.name={folder}",
            f"data.0.path={data}",
            f"data.0.documents=[{corpus}]",
            "data.0.format=radar",
            f"activation_checkpointing={str(recomputing).lower()}",
            f"mini_batch_tokens={budget}",
            f"batch_queries={options.queries}",
            "max_document_tokens=4096",
            "warmup_steps=1",
            "save_every=1000",
        ]
        run.train(Recipe.load("one-gpu", overrides=overrides), folder / f"run-{recomputing}")
        steps = np.diff(clocks)[1:]  # the first warms up
        speed = sum(tokens[1 : len(steps) + 1]) / steps.sum()
        needed, done = 4 * weights * speed / rate, (8 if recomputing else 6) * weights * speed / rate
        print(
            f"{'recomputing' if recomputing else 'keeping'} activations, mini-batches of {budget:,} tokens: "
            f"{speed:,.0f} tokens/s over {len(steps)} updates of {np.mean(tokens):,.0f} tokens, peak "
            f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; needed {needed:.1%}, done {done:.1%}, "
            f"6N {6 * weights * speed / rate:.1%} of the matrix rate",
            flush=True,
        )


def main() -> None:
    """Makes the model and runs the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encode", "train"])
    parser.add_argument("--docs", nargs="+", default=[str(DEMO)])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128, help="documents of a batch of SentenceTransformer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="updates, of which the first warms up")
    parser.add_argument("--queries", type=int, default=16, help="queries of an update, each with 12 documents")
    options = parser.parse_args()
    texts = read_texts(options.docs, 4000)
    rate = matrix_rate()
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        weights = make_checkpoint(Path(name), texts, options.layers)
        print(f"{weights / 1e9:.2f} billion weights besides embeddings")
        (encode if options.what == "encode" else train)(Path(name), texts, weights, rate, options)


if __name__ == "__main__":
    main()
