"""Reranking speed: one query's documents with a shared prefix, against plain padded batches and one pair at a time.

A random Qwen2-shaped sequence classifier (6 layers, hidden 512) scores 100 documents under a 300-token query:

    python bench/rerank.py --docs stacks.jsonl.gz --rounds 5
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from encode import DEMO
from harness import interleave, read_texts, report, timed

SYSTEMS = ["one-at-a-time", "padded-batches", "radar"]
QUERY_TOKENS = 300


def make_checkpoint(folder: Path, texts: list[str]) -> None:
    """Saves a random one-label classifier whose tokenizer was trained on the texts."""
    from transformers import Qwen2Config, Qwen2ForSequenceClassification, Qwen2Tokenizer

    from torch_radar.checkpoints import Checkpoint, save_radar_json
    from torch_radar.templates import RECOVERED_PAIR

    torch.manual_seed(0)
    blank = Qwen2Tokenizer(pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token="<|endoftext|>")
    tokenizer = blank.train_new_from_iterator(texts, vocab_size=8000)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        num_labels=1,
    )
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_radar_json(folder, Checkpoint(str(folder), "reranker", RECOVERED_PAIR, "last_token", max_tokens=4096))


def make_pairs(folder: Path, texts: list[str]) -> list[tuple[str, str]]:
    """One query of about 300 tokens, joined from texts, with every other text as its document."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    query = tokenizer.decode(tokenizer(" ".join(texts[:20]))["input_ids"][:QUERY_TOKENS])
    return [(query, text) for text in texts[20:]]


def score_with_transformers(folder: Path, pairs: list[tuple[str, str]], batch_size: int) -> tuple[float, np.ndarray]:
    """The peer: the library's classifier over strings in the same form, in padded batches."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "right"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    eos = tokenizer.eos_token
    strings = [f"query: Query: {query} document:  {document} {eos}" for query, document in pairs]

    @torch.inference_mode()
    def score() -> np.ndarray:
        logits = []
        for start in range(0, len(strings), batch_size):
            batch = tokenizer(strings[start : start + batch_size], padding=True, return_tensors="pt")
            logits.append(model(**batch).logits[:, 0])
        return torch.cat(logits).numpy()

    strings, everything = strings[:2], strings
    score()
    strings = everything
    return timed(score)


def score_with_radar(folder: Path, pairs: list[tuple[str, str]]) -> tuple[float, np.ndarray]:
    """Ours."""
    from torch_radar.reranker import Reranker

    reranker = Reranker(folder, device="cpu", dtype="float32")
    reranker.score(pairs[:2])
    return timed(lambda: reranker.score(pairs))


def run(system: str, folder: Path, texts: list[str]) -> None:
    """One run, in a process of its own."""
    pairs = make_pairs(folder, texts)
    if system == "radar":
        seconds, scores = score_with_radar(folder, pairs)
    else:
        seconds, scores = score_with_transformers(folder, pairs, 1 if system == "one-at-a-time" else 32)
    np.save(folder / f"{system}.npy", scores)
    report(seconds=round(seconds, 2))


def main() -> None:
    """Runs the comparison and prints the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", nargs="+", default=[str(DEMO)])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--system")
    parser.add_argument("--folder")
    options = parser.parse_args()
    texts = read_texts(options.docs, 120)
    if options.system:
        return run(options.system, Path(options.folder), texts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder, texts)
        print(f"{len(texts) - 20} documents, {QUERY_TOKENS}-token query, {torch.get_num_threads()} threads")
        medians = interleave(__file__, SYSTEMS, options.rounds, ["--folder", name, "--docs", *options.docs])
        scores = {system: np.load(folder / f"{system}.npy") for system in SYSTEMS}
    for peer in SYSTEMS[:2]:
        difference = abs(scores[peer] - scores["radar"]).max()
        ratio = medians[peer]["seconds"] / medians["radar"]["seconds"]
        print(f"radar: largest score difference from {peer} {difference:.1e}")
        print(f"seconds: {peer} / radar = {ratio:.2f}")


if __name__ == "__main__":
    main()
