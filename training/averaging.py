"""The average of runs that differ in their seed alone, as one adapter, whole or weakened towards the base.

Adapters of one base are low-rank sums, and so is their average: stacked side by side and divided by their number,
they are one adapter of the summed rank, exactly. What single runs learnt by accident cancels (Wortsman et al., 2022).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from torch_radar.checkpoints import RADAR_JSON, load_radar_json
from training.export import ExportError

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
    for path in runs[0].glob("tokenizer*"):
        shutil.copyfile(path, output / path.name)
    shutil.copyfile(runs[0] / RADAR_JSON, output / RADAR_JSON)
    return output


def _average(key: str, tensors: list[torch.Tensor]) -> torch.Tensor:
    if "lora_A" in key:
        return torch.cat(tensors, dim=0)
    if "lora_B" in key:
        return torch.cat(tensors, dim=1) / len(tensors)
    return torch.stack(tensors).mean(dim=0)
