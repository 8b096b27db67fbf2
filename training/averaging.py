"""The average of runs that differ in their seed alone, as one adapter.

What single runs learnt by accident cancels (Wortsman et al., 2022). Adapters of one base are low-rank sums, and so is
their average: stacked side by side and divided by their number, they are one adapter of the summed rank, exactly. For
runs that trained all weights, each linear layer's mean change is approximated by its largest singular values. A single
run is an average too: all its weights become an adapter.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from torch_radar.checkpoints import RADAR_JSON, Checkpoint, load_radar_json, save_radar_json
from torch_radar.loaded import LoadedModel
from torch_radar.loading import load
from training.export import ExportError

logger = logging.getLogger(__name__)

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def average_adapters(
    runs: Sequence[Path], output: Path, *, strength: float = 1.0, dtype: torch.dtype = torch.float32
) -> Path:
    """Writes the average of several runs' adapters.

    Args:
        runs: Finished runs of one recipe with different seeds.
        output: The folder to write; it holds adapter, tokenizer and ``radar.json`` as a run's does.
        strength: The share of the change to the base that is kept: below 1 the result lies between base and average,
            and keeps more of what the base could do (Wortsman et al., 2022b).
        dtype: Of the saved weights.

    Returns:
        ``output``.

    Raises:
        ExportError: If the runs are not adapters of one base and shape.
    """
    first = load_radar_json(runs[0])
    configs = [json.loads((run / _CONFIG).read_text(encoding="utf-8")) for run in runs]
    compared = ("base_model_name_or_path", "r", "lora_alpha", "modules_to_save", "use_rslora")
    for run, config in zip(runs, configs, strict=True):
        different = [key for key in compared if config.get(key) != configs[0].get(key)]
        if different or load_radar_json(run).template != first.template:
            raise ExportError(f"{run} is not like {runs[0]} ({', '.join(different) or 'template'}): average one recipe")
    states = [load_file(run / _WEIGHTS) for run in runs]
    if any(state.keys() != states[0].keys() for state in states):
        raise ExportError("the runs adapt different layers: average runs of one recipe")
    output.mkdir(parents=True, exist_ok=True)
    averaged = {key: _average(key, [state[key].float() for state in states]).to(dtype) for key in states[0]}
    save_file({key: tensor.contiguous() for key, tensor in averaged.items()}, output / _WEIGHTS, {"format": "pt"})
    # The scale alpha / r stays what it was, but for the strength.
    rank, alpha = configs[0]["r"] * len(runs), configs[0]["lora_alpha"] * len(runs) * strength
    config = configs[0] | {"r": rank, "lora_alpha": alpha}
    (output / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _copy_tokenizer(runs[0], output)
    shutil.copyfile(runs[0] / RADAR_JSON, output / RADAR_JSON)
    return output


def low_rank_average(
    runs: Sequence[Path],
    output: Path,
    *,
    rank: int,
    targets: Sequence[str],
    base: str | None = None,
    strength: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Writes the average of runs that trained all weights as an adapter over their base.

    What changed outside the target layers (embeddings, norms, biases) is left out, but for a reranker's head, which is
    saved whole.

    Args:
        runs: Finished runs of one recipe without LoRA, with different seeds.
        output: The folder to write; it holds adapter, tokenizer and ``radar.json``.
        rank: Of the adapter: a layer's change keeps its largest ``rank`` singular values.
        targets: Last names of the linear layers.
        base: What the adapter is to be added to, of the runs' shape; ``None`` is what they started from.
        strength: As of :func:`average_adapters`; it is multiplied into the adapter.
        dtype: Of the saved weights.

    Returns:
        ``output``.

    Raises:
        ExportError: If the runs are no full weights of one base and template, or if no layer is named as a target.
    """
    from peft import LoraConfig, TaskType

    checkpoints = [load_radar_json(run) for run in runs]
    first = checkpoints[0]
    for run, one in zip(runs, checkpoints, strict=True):
        if one.base is None or one.is_adapter:
            raise ExportError(f"{run} does not hold whole weights and the name of their base: use average_adapters")
        if (one.kind, one.base, one.template) != (first.kind, first.base, first.template):
            raise ExportError(f"{run} is not like {runs[0]} (kind, base or template): average one recipe")
    base = base or str(first.base)
    untrained = _loaded(replace(first, name=base, base=None), new_head=True)
    before, *after = (dict(one.model.named_parameters()) for one in (untrained, *map(_loaded, checkpoints)))
    if any({n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in before.items()} for weights in after):
        raise ExportError(f"the runs' weights are not of the shape of {base}")
    head = untrained.head
    adapter, layers, kept, whole = {}, [], 0.0, 0.0
    for name, weight in before.items():
        layer, _, kind = name.rpartition(".")
        in_head = head is not None and name.startswith(f"{head}.")
        if not in_head and (kind != "weight" or layer.rpartition(".")[2] not in targets):
            continue
        learnt = torch.stack([weights[name] for weights in after]).mean(dim=0)
        if in_head:
            adapter[f"base_model.model.{name}"] = learnt
            continue
        change = learnt - weight
        if not change.any():
            continue
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        roots = values[:rank].sqrt()
        absent = rank - len(roots)  # of a layer narrower than that: zeros
        adapter[f"base_model.model.{layer}.lora_A.weight"] = pad(roots[:, None] * right[:rank], (0, 0, 0, absent))
        adapter[f"base_model.model.{layer}.lora_B.weight"] = pad(strength * left[:, :rank] * roots, (0, absent))
        layers.append(layer)
        kept, whole = kept + float(values[:rank].square().sum()), whole + float(values.square().sum())
    if not layers:
        raise ExportError(f"no layer named {', '.join(targets)} differs from that of {base}: nothing was trained")
    logger.info("rank %d keeps %.1f %% of the squared change of %d layers", rank, 100 * kept / whole, len(layers))
    output.mkdir(parents=True, exist_ok=True)
    saved = {key: tensor.to(dtype).contiguous() for key, tensor in adapter.items()}
    save_file(saved, output / _WEIGHTS, {"format": "pt"})
    config = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION if head is None else TaskType.SEQ_CLS,
        base_model_name_or_path=base,
        inference_mode=True,
        r=rank,
        lora_alpha=rank,
        modules_to_save=None if head is None else [head],
    )
    # In an order that is always the same: PEFT keeps the names as a set.
    written = config.to_dict() | {"target_modules": layers}
    (output / _CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    _copy_tokenizer(runs[0], output)
    save_radar_json(output, replace(first, base=base, is_adapter=True))
    return output


def _loaded(checkpoint: Checkpoint, *, new_head: bool = False) -> LoadedModel:
    return load(checkpoint, device=torch.device("cpu"), dtype=torch.float32, new_head=new_head)


def _copy_tokenizer(run: Path, output: Path) -> None:
    for path in run.glob("tokenizer*"):
        shutil.copyfile(path, output / path.name)


def _average(key: str, tensors: list[torch.Tensor]) -> torch.Tensor:
    if "lora_A" in key:
        return torch.cat(tensors, dim=0)
    if "lora_B" in key:
        return torch.cat(tensors, dim=1) / len(tensors)
    return torch.stack(tensors).mean(dim=0)
