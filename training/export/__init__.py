"""From a run folder to a checkpoint that every other tool reads as torch_radar does, verified before it appears.

Adapters are merged in float32, the text form goes into the files where each reader looks for it (the closing EOS into
the tokenizer, prefixes, pooling and limits into those of Sentence Transformers), and the folder gets its name only
after the tools agree. ``docs/export.md`` says which file tells what to whom.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from torch_radar.batching import pad_right
from torch_radar.checkpoints import (
    RADAR_JSON,
    Checkpoint,
    CheckpointError,
    Pooling,
    load_radar_json,
    save_radar_json,
)
from torch_radar.loaded import LoadedModel
from torch_radar.loading import choose_device, load
from torch_radar.templates import TextTemplate, framing, token_ids
from training.export.agreement import TEXTS, ExportError, check_agreement, check_rounding, radar_outputs
from training.export.card import Results, model_card
from training.recipe import Recipe

__all__ = ["ExportError", "export"]

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16", "float16"]

_RECIPE = "recipe.yaml"
# Read by Sentence Transformers' CrossEncoder and by vLLM, which apply a sigmoid to a single label otherwise.
_NO_ACTIVATION = {"activation_fn": "torch.nn.modules.linear.Identity"}
# What a tokenizer_config.json may hold that undoes or doubles the post-processor, or names code that is not here.
_TOKENIZER_KEYS = ("add_bos_token", "add_eos_token", "auto_map")
_POOLING_FLAGS: dict[Pooling, str] = {"last_token": "pooling_mode_lasttoken", "mean": "pooling_mode_mean_tokens"}
_ADAPTER_FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    RADAR_JSON,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)


def export(
    run: Path,
    output: Path,
    *,
    dtype: Precision = "float32",
    adapter_only: bool = False,
    device: str | None = None,
    results: Mapping[str, Results] | None = None,
) -> Path:
    """Writes what a run trained as a checkpoint for torch_radar, Sentence Transformers, transformers, vLLM and TEI.

    Args:
        run: The folder that training left.
        output: The folder to make; it must not exist, or be empty.
        dtype: Precision of the saved weights; adapters are merged in float32 whatever it is.
        adapter_only: Whether to copy the adapter instead of merging it; only torch_radar and PEFT read that.
        device: Where to verify; ``None`` is the best device here.
        results: Measurements for the model card, by evaluation set and then by measure.

    Returns:
        ``output``. It exists only if everything agreed.

    Raises:
        ExportError: If the run cannot be exported so, or if what was written is not what was trained, or if a tool
            reads it otherwise than torch_radar; it says which tool and how far off.
        CheckpointError: If the run or its base is incomplete.
    """
    run, output = Path(run), Path(output)
    if dtype not in get_args(Precision):
        raise ValueError(f"unknown dtype {dtype!r}: use one of {', '.join(get_args(Precision))}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExportError(f"{output} exists already: name another folder, or remove it")
    checkpoint = load_radar_json(run)
    chosen = choose_device(device)
    with _aside(output) as folder:
        if adapter_only:
            exported = _copy_adapter(checkpoint, run, folder, chosen)
        else:
            exported = _merge(checkpoint, folder, dtype, chosen)
        recipe = Recipe.load(run / _RECIPE) if (run / _RECIPE).is_file() else None
        card = model_card(exported, recipe, name=output.name, results=results)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return output


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """A folder that gets the name of ``output`` when all has gone well, and is removed otherwise."""
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}.{os.getpid()}.partial")
    folder.mkdir()
    try:
        yield folder
        folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_adapter(checkpoint: Checkpoint, run: Path, folder: Path, device: torch.device) -> Checkpoint:
    if not checkpoint.is_adapter:
        raise ExportError(f"{run} holds full weights and no adapter: leave out adapter_only")
    for pattern in _ADAPTER_FILES:
        for path in run.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    copied = load_radar_json(folder)
    _check_trained(copied, load(copied, device=device, dtype=torch.float32))
    return copied


def _merge(checkpoint: Checkpoint, folder: Path, dtype: Precision, device: torch.device) -> Checkpoint:
    """Writes and verifies merged weights; at most two models are in memory at any time."""
    if checkpoint.kind == "retriever" and checkpoint.pooling not in _POOLING_FLAGS:
        raise ExportError(f"a retriever that pools by {checkpoint.pooling!r} is not one torch_radar can run")
    exported = replace(checkpoint, name=str(folder), is_adapter=False, revision=None)
    loaded = load(checkpoint, device=device, dtype=torch.float32)
    _check_trained(checkpoint, loaded)
    trained = radar_outputs(checkpoint, device, loaded)
    for name, parameter in loaded.model.named_parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
        if not bool(parameter.isfinite().all()):
            raise ExportError(f"{name} holds numbers that {dtype} cannot: export as bfloat16 or float32")
    _save_weights(loaded, checkpoint, folder)
    _save_tokenizer(loaded, checkpoint, folder)
    save_radar_json(folder, exported)
    if isinstance(checkpoint.template, TextTemplate):
        _save_sentence_transformers(checkpoint, checkpoint.template, loaded.dimension, folder)
    weights = loaded.model.state_dict()
    del loaded
    outputs = check_agreement(exported, folder, weights, device)
    check_rounding(exported, trained, outputs, dtype)
    return exported


def _check_trained(checkpoint: Checkpoint, loaded: LoadedModel) -> None:
    """Raises if the weights act as those of the base do."""
    if checkpoint.base is None:
        return
    described = replace(checkpoint, name=checkpoint.base, base=None, is_adapter=False, revision=None)
    try:
        base = load(described, device=loaded.device, dtype=torch.float32, new_head=checkpoint.kind == "reranker")
    except CheckpointError as error:  # an adapter could not have been loaded without it
        logger.warning("not compared with its base %s: %s", checkpoint.base, error)
        return
    ids, lengths = pad_right(token_ids(loaded.tokenizer, [text for text in TEXTS if text]), loaded.device)
    with torch.inference_mode():
        if torch.equal(loaded.last_token_states(ids, lengths), base.last_token_states(ids, lengths)):
            raise ExportError(f"{checkpoint.name} has the weights of its base {checkpoint.base}: nothing was trained")


def _save_weights(loaded: LoadedModel, checkpoint: Checkpoint, folder: Path) -> None:
    config = loaded.model.config
    # Without it transformers cannot find the last token of the rows of a batch, and refuses to classify two at once.
    config.pad_token_id = loaded.tokenizer.pad_token_id
    if checkpoint.kind == "reranker":
        config.sentence_transformers = dict(_NO_ACTIVATION)
    if hasattr(config, "auto_map"):
        del config.auto_map  # the base's remote code is neither used nor copied
    loaded.model.save_pretrained(folder)
    path = folder / "config.json"
    _write_json(path, _with_old_keys(json.loads(path.read_text(encoding="utf-8"))))


def _with_old_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Adds what transformers 4 and TEI look for; without a ``rope_theta`` of its own they take 10,000 or fail."""
    old: dict[str, Any] = {"torch_dtype": config["dtype"]}
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        old["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            old["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return config | old


def _save_tokenizer(loaded: LoadedModel, checkpoint: Checkpoint, folder: Path) -> None:
    """Saves the tokenizer so that calling it on a string gives the ids torch_radar reads, cut at the same place."""
    tokenizer: Any = loaded.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(f"{checkpoint.name} has a tokenizer without a tokenizer.json: convert it to a fast one")
    backend.no_truncation()
    backend.no_padding()
    if checkpoint.ends_with_eos:
        from tokenizers.processors import TemplateProcessing

        frame = framing(tokenizer, ends_with_eos=True)
        before, after = (tokenizer.convert_ids_to_tokens(list(ids)) for ids in (frame.before, frame.after))
        backend.post_processor = TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", "$B", *after],  # an EOS between query and document was never trained
            special_tokens=list(zip([*before, *after], [*frame.before, *frame.after], strict=True)),
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.model_max_length = checkpoint.max_tokens
    # It has no head to chat with, and readers that find a template put texts into it.
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(settings.get("extra_special_tokens"), list):
        # transformers 4 fails on a list of that name; 5 reads it by its old one as well.
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name in transformers 4, which 5 still reads
    _write_json(path, {key: value for key, value in settings.items() if key not in _TOKENIZER_KEYS})


def _save_sentence_transformers(checkpoint: Checkpoint, template: TextTemplate, dimension: int, folder: Path) -> None:
    """Writes the files of Sentence Transformers in their old layout, which old and new readers and servers know."""
    names = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    _write_json(folder / "modules.json", modules)
    # No modality_config here: old readers fail on keys they do not know, and new ones read plain text where there is a
    # modules.json without that key. Only for a bare model would they infer chat messages.
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": checkpoint.max_tokens, "do_lower_case": False})
    _write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": template.query_prefix, "document": template.document_prefix},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    flags = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    chosen = _POOLING_FLAGS[checkpoint.pooling]
    # The flags come first: vLLM once took the first key that is true for the pooling.
    pooling = {"word_embedding_dimension": dimension}
    pooling |= {f"pooling_mode_{flag}": f"pooling_mode_{flag}" == chosen for flag in flags}
    for path in paths[1:]:
        (folder / path).mkdir()
    _write_json(folder / "1_Pooling" / "config.json", pooling | {"include_prompt": True})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
