"""Whether other tools read an exported folder as torch_radar does: the same tensors, the same numbers for a few texts.

Every comparison runs in float32, whatever precision the weights were saved in, so one narrow tolerance serves all;
what the rounding of the weights itself changes is measured apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder
from torch_radar.loaded import LoadedModel
from torch_radar.reranker import Reranker
from torch_radar.templates import PairTemplate, TextTemplate

TOLERANCE = 1e-5
# How far a unit vector, or a logit in units of the largest, may move when weights are rounded.
ROUNDING = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1}
_BATCH = 8

TEXTS = (
    "",
    "a",
    "What is the order of a subgroup?",
    "Let $G$ be a finite group and $H \\le G$. Then $|H|$ divides $|G|$.",
    "Every bounded sequence of real numbers has a convergent subsequence.",
    "\\begin{align} \\int_a^b f'(x)\\,dx &= f(b) - f(a) \\end{align}",
    "How many ways are there to seat 7 guests at a round table if two of them refuse to sit together?",
    "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
    "Why do leaves turn red in autumn although chlorophyll is green?",
    "Теорема Пифагора: $a^2 + b^2 = c^2$.",
    "素数は無限に存在する。",
    "The pigeonhole principle: n + 1 objects in n boxes put two into one.",
    "Is 2^31 - 1 prime? Show all steps.",
    "café, naïve, œuvre — “quoted” … 𝔽₂, ℝⁿ, ∀ε>0 ∃δ>0",
    "1,000,000.50 + 0.001 = 1000000.501",
    "If the price falls by 20% and then rises by 25%, what has changed?",
    "A continuous function on a compact set attains its maximum.",
    "query: document: query:",
    "Robot joint torque oscillates when the controller gain exceeds 12; what should be checked first?",
    "👩‍🔬 measures 3.2 µm ± 0.1 µm",
)


class ExportError(RuntimeError):
    """A run that cannot be exported, or a folder that a tool reads otherwise than torch_radar."""


def pair_halves(template: PairTemplate, query: str, document: str) -> tuple[str, str]:
    """Splits a pair for tools that take two texts and tokenise each by itself, such as vLLM's ``/score``.

    The white space before the document goes with the document: a tokenizer glues it to the first word.
    """
    head = template.before_document.rstrip()
    space = template.before_document[len(head) :]
    return template.before_query + query + head, space + document + template.after_document


def radar_outputs(checkpoint: Checkpoint, device: torch.device, loaded: LoadedModel | None = None) -> np.ndarray:
    """Returns what torch_radar makes of the texts: vectors of queries, then documents, or logits of pairs."""
    queries, documents = _texts(checkpoint)
    options: dict[str, Any] = {"device": str(device), "dtype": "float32"} if loaded is None else {"loaded": loaded}
    if checkpoint.kind == "reranker":
        return Reranker(checkpoint, **options).score(list(zip(queries, documents, strict=True)))
    encoder = Encoder(checkpoint, **options)
    return np.concatenate([encoder.encode_queries(queries), encoder.encode_documents(documents)])


def check_agreement(
    checkpoint: Checkpoint, folder: Path, weights: Mapping[str, torch.Tensor], device: torch.device
) -> np.ndarray:
    """Reads a folder with every tool there is here.

    Args:
        checkpoint: The exported checkpoint, named by its folder.
        folder: That folder.
        weights: The tensors that were saved, as they were in memory.
        device: Where to run.

    Returns:
        torch_radar's vectors or logits, as :func:`radar_outputs` gives them.

    Raises:
        ExportError: If tensors were lost, or a tool's numbers differ.
    """
    plain = _transformers_outputs(checkpoint, folder, weights, device)
    ours = radar_outputs(checkpoint, device)
    _compare(checkpoint, "transformers", plain, ours)
    if checkpoint.kind == "retriever":
        _compare(checkpoint, "Sentence Transformers", _sentence_transformers_outputs(checkpoint, folder, device), ours)
    return ours


def check_rounding(checkpoint: Checkpoint, trained: np.ndarray, saved: np.ndarray, dtype: str) -> None:
    """Raises if the saved weights act otherwise than those that were trained, but for rounding to ``dtype``."""
    if checkpoint.kind == "retriever":
        apart = float(np.linalg.norm(trained - saved, axis=1).max())
    else:
        apart = float(np.abs(trained - saved).max() / max(1.0, np.abs(trained).max()))
    if not apart <= ROUNDING[dtype]:
        raise ExportError(
            f"torch_radar gives other numbers for the saved {dtype} weights than for those in memory: {apart:.2g} "
            f"apart, where {ROUNDING[dtype]:g} is allowed"
        )


def _texts(checkpoint: Checkpoint) -> tuple[list[str], list[str]]:
    """Queries and documents, or pair by pair both of them; the last is longer than the limit."""
    sentence = "Suppose that every open cover of the space has a finite subcover, and consider a sequence in it. "
    long = sentence * (checkpoint.max_tokens // len(sentence.split()) + 1)
    if checkpoint.kind == "retriever":
        return [*TEXTS, long.strip()], [*TEXTS, long.strip()]
    rotated = [*TEXTS[1:], TEXTS[0]]
    if isinstance(checkpoint.template, PairTemplate) and checkpoint.template.after_document:
        return [*TEXTS], rotated  # cutting the whole string, other tools lose what follows the document
    return [*TEXTS, TEXTS[2]], [*rotated, long.strip()]


def _compare(checkpoint: Checkpoint, tool: str, theirs: np.ndarray, ours: np.ndarray) -> None:
    apart = np.abs(theirs - ours)
    if checkpoint.kind == "retriever":
        apart = apart.max(axis=1)
    else:
        apart = apart / max(1.0, float(np.abs(ours).max()))
    apart = np.where(np.isfinite(apart), apart, np.inf)
    row = int(apart.argmax())
    if apart[row] <= TOLERANCE:
        return
    queries, documents = _texts(checkpoint)
    if checkpoint.kind == "reranker":
        what = f"pair {queries[row][:40]!r}, {documents[row][:40]!r}"
    else:
        what = f"{'query' if row < len(queries) else 'document'} {[*queries, *documents][row][:40]!r}"
    raise ExportError(
        f"{tool} and torch_radar are {apart[row]:.2g} apart for the {what}, where {TOLERANCE:g} is allowed: "
        "the folder does not say the same to both"
    )


def _strings(checkpoint: Checkpoint) -> list[str]:
    """The texts as whole strings, as a tool without templates is given them."""
    queries, documents = _texts(checkpoint)
    template = checkpoint.template
    if isinstance(template, TextTemplate):
        return [template.query(query) for query in queries] + [template.document(text) for text in documents]
    return [
        template.head(query) + document + template.after_document
        for query, document in zip(queries, documents, strict=True)
    ]


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """Texts in order, several at a time, a very long one by itself."""
    batches: list[list[str]] = [[]]
    for text in texts:
        if batches[-1] and (len(text) > 1000 or len(batches[-1]) == _BATCH or len(batches[-1][-1]) > 1000):
            batches.append([])
        batches[-1].append(text)
    return batches


@torch.inference_mode()
def _transformers_outputs(
    checkpoint: Checkpoint, folder: Path, weights: Mapping[str, torch.Tensor], device: torch.device
) -> np.ndarray:
    """What transformers alone gives: its tokenizer, its model, and pooling by hand."""
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    auto: Any = AutoModel if checkpoint.kind == "retriever" else AutoModelForSequenceClassification
    model, report = auto.from_pretrained(folder, output_loading_info=True, use_safetensors=True)
    wrong = {kind: sorted(map(str, report[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        raise ExportError(f"transformers does not read back what was saved: {wrong}")
    read = model.state_dict()
    differing = [name for name, tensor in weights.items() if name not in read or not _equal(read[name], tensor)]
    if differing or read.keys() != weights.keys():
        raise ExportError(f"{len(differing)} tensors read back by transformers are not those saved: {differing[:3]}")
    model = model.float().to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    outputs = []
    for texts in _batches(_strings(checkpoint)):
        inputs = tokenizer(
            texts, padding=True, truncation=True, max_length=checkpoint.max_tokens, return_tensors="pt"
        ).to(device)
        result = model(**inputs)
        if checkpoint.kind == "reranker":
            outputs.append(result.logits[:, 0].cpu())
            continue
        states, mask = result.last_hidden_state, inputs["attention_mask"]
        if checkpoint.pooling == "last_token":
            pooled = states[torch.arange(len(states), device=device), mask.sum(dim=1) - 1]
        else:
            pooled = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        outputs.append(normalize(pooled, dim=-1).cpu())
    return torch.cat(outputs).numpy()


def _equal(read: torch.Tensor, saved: torch.Tensor) -> bool:
    return read.dtype == saved.dtype and torch.equal(read, saved.to(read.device))


def _sentence_transformers_outputs(checkpoint: Checkpoint, folder: Path, device: torch.device) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=str(device), model_kwargs={"dtype": torch.float32})
    queries, documents = _texts(checkpoint)
    quiet: dict[str, Any] = {"batch_size": _BATCH, "show_progress_bar": False}
    outputs = [model.encode_query(texts, **quiet) for texts in _batches(queries)]
    outputs += [model.encode_document(texts, **quiet) for texts in _batches(documents)]
    return np.concatenate(outputs)
