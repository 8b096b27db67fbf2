"""Encoding speed and memory against ``SentenceTransformer.encode``, same weights, same vectors.

A random Qwen2-shaped retriever (8 layers, hidden 384, Qwen's pre-tokenizer with a vocabulary of its own) encodes real
texts of mixed lengths. Run with the texts of your choice (JSONL or JSONL.gz with a ``text`` field):

    python bench/encode.py --docs stacks.jsonl.gz vaswani.jsonl.gz --texts 4000
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import interleave, read_texts, report, timed

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "pyterrier_radar" / "collections" / "theorems" / "documents.jsonl"
SYSTEMS = ["sentence-transformers", "radar-float32"]


def make_checkpoint(folder: Path, texts: list[str], layers: int, hidden: int, mlp: float) -> None:
    """Saves a random retriever whose tokenizer was trained on the texts."""
    from transformers import Qwen2Config, Qwen2Model, Qwen2Tokenizer

    from torch_radar.checkpoints import Checkpoint, save_radar_json
    from torch_radar.templates import QUERY_DOCUMENT

    torch.manual_seed(0)
    blank = Qwen2Tokenizer(pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token="<|endoftext|>")
    tokenizer = blank.train_new_from_iterator(texts, vocab_size=8000)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=round(mlp * hidden),
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        num_key_value_heads=max(1, hidden // 192),
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=hidden**-0.5,  # keeps variance, so that attention is far from uniform, as in a trained model
    )
    Qwen2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_radar_json(folder, Checkpoint(str(folder), "retriever", QUERY_DOCUMENT, "last_token", max_tokens=4096))


def library_model(folder: Path, max_tokens: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The peer, configured so that it reads the same tokens: last-token pooling, EOS added, right padding."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(
        str(folder),
        max_seq_length=max_tokens,
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
        model_kwargs={"dtype": dtype},
        processor_kwargs={"add_eos_token": True, "padding_side": "right"},
    )
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    return SentenceTransformer(
        modules=[transformer, pooling, Normalize()], prompts={"document": "document: "}, device=device
    )


def encode_with_sentence_transformers(folder: Path, texts: list[str]) -> tuple[float, np.ndarray]:
    """The peer."""
    model = library_model(folder, 4096)
    model.encode(texts[:32], prompt_name="document")
    return timed(lambda: model.encode(texts, prompt_name="document"))


def encode_with_radar(folder: Path, texts: list[str], dtype: str) -> tuple[float, np.ndarray]:
    """Ours, in the given precision."""
    from torch_radar.encoder import Encoder

    encoder = Encoder(folder, dtype=dtype, device="cpu")
    encoder.encode_documents(texts[:32])
    return timed(lambda: encoder.encode_documents(texts))


def run(system: str, folder: Path, texts: list[str]) -> None:
    """One run, in a process of its own."""
    if system == "sentence-transformers":
        seconds, vectors = encode_with_sentence_transformers(folder, texts)
    else:
        seconds, vectors = encode_with_radar(folder, texts, system.removeprefix("radar-"))
    np.save(folder / f"{system}.npy", vectors)
    report(seconds=round(seconds, 2))


def main() -> None:
    """Runs the comparison and prints the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", nargs="+", default=[str(DEMO)])
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--mlp", type=float, default=8 / 3, help="width of the MLP over hidden; 8/3 is usual if gated")
    parser.add_argument("--system")
    parser.add_argument("--folder")
    options = parser.parse_args()
    texts = read_texts(options.docs, options.texts)
    if options.system:
        return run(options.system, Path(options.folder), texts)
    systems = list(SYSTEMS)
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        systems.append("radar-bfloat16")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_checkpoint(folder, texts, options.layers, options.hidden, options.mlp)
        print(f"{len(texts)} texts, {options.layers} layers × {options.hidden}, {torch.get_num_threads()} threads")
        arguments = ["--folder", name, "--texts", str(options.texts), "--docs", *options.docs]
        medians = interleave(__file__, systems, options.rounds, arguments)
        vectors = {system: np.load(folder / f"{system}.npy") for system in systems}
    peer = systems[0]
    for system in systems[1:]:
        cosine = (vectors[peer] * vectors[system]).sum(axis=1).min()
        print(f"{system}: smallest cosine with {peer} {cosine:.6f}")
        for figure in ("seconds", "peak_mib"):
            ratio = medians[peer][figure] / medians[system][figure]
            print(f"{figure}: {peer} / {system} = {ratio:.2f}")


if __name__ == "__main__":
    main()
