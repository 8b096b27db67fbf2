"""Small random models, made in seconds on any machine, shaped like the released checkpoints."""

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification, Qwen2Model, Qwen2Tokenizer

EOS = "<|im_end|>"
PAD = "<|endoftext|>"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_TRAINING_TEXT = [
    "query: document: Query: Document: Passage: Instruct: Given a Math problem, retrieve relevant theorems",
    "Let $G$ be a finite group and let $H$ be a subgroup; then the order of $H$ divides the order of $G$.",
    "The ferry leaves at 7:45 and every 12 minutes after that. How many people wait, on average, at noon?",
    "A continuous function on a closed bounded interval attains its maximum, and so it is bounded there.",
    "\\begin{enumerate} \\item $f : X \\to Y$ is \\emph{étale} \\end{enumerate} — naïve, 定理, теорема",
]


def qwen_tokenizer(vocab_size: int = 600) -> Qwen2Tokenizer:
    """A byte-level BPE with Qwen's own pre-tokenizer; its pad token differs from its EOS, as Qwen2.5's does."""
    blank = Qwen2Tokenizer(pad_token=PAD, eos_token=EOS, unk_token=PAD, extra_special_tokens=["<|im_start|>"])
    return blank.train_new_from_iterator(_TRAINING_TEXT * 20, vocab_size=vocab_size)


def qwen_config(tokenizer: Qwen2Tokenizer, *, hidden: int, layers: int, **overrides: object) -> Qwen2Config:
    heads = max(2, hidden // 64)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 8192,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.1,
    }
    return Qwen2Config(**(settings | overrides))


def save_qwen_retriever(
    folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Path:
    """Weights and tokenizer of a random Qwen2 retriever, without radar.json: as the hub serves them."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    Qwen2Model(qwen_config(tokenizer, hidden=hidden, layers=layers)).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_qwen_reranker(folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 1) -> Path:
    """Weights and tokenizer of a random one-label Qwen2 sequence classifier."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    config = qwen_config(tokenizer, hidden=hidden, layers=layers, num_labels=1)
    Qwen2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_qwen_chat(folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 2) -> Path:
    """Weights and tokenizer of a random Qwen2 that speaks, with a chat template of Qwen's shape."""
    torch.manual_seed(seed)
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = CHAT
    Qwen2ForCausalLM(qwen_config(tokenizer, hidden=hidden, layers=layers)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
