"""The model in training: torch_radar's loaded model, adapters put in place, as a Sentence Transformers module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Module
from torch import Tensor

from torch_radar.checkpoints import Checkpoint
from torch_radar.loaded import LoadedModel
from training.recipe import Lora

_TRAINED = "trained.safetensors"


class TextModel(Module):
    """Texts to unit vectors, or pairs to logits, exactly as they are served.

    Args:
        loaded: From :func:`torch_radar.loading.load`.
        checkpoint: What the trained weights will be: kind, template, pooling.
    """

    def __init__(self, loaded: LoadedModel, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = loaded.model  # registers the parameters
        self.loaded = loaded
        self.checkpoint = checkpoint

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """Adds ``sentence_embedding``: unit vectors (n, dimension), or logits (n, 1), float32.

        The key is the one that the library's GradCache reads, whatever the model gives.
        """
        ids, lengths = features["input_ids"], features["attention_mask"].sum(dim=1)
        if self.checkpoint.kind == "retriever":
            features["sentence_embedding"] = self.loaded.vectors(ids, lengths, self.checkpoint.pooling)
        else:
            features["sentence_embedding"] = self.loaded.logits(ids, lengths)[:, None]
        return features

    def trained(self) -> dict[str, Tensor]:
        """What training changes, by name."""
        return {name: p.detach() for name, p in self.network.named_parameters() if p.requires_grad}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes what training changes, and nothing else, to a folder: a checkpoint of a run, not for use."""
        Path(output_path).mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.trained().items()}
        save_file(tensors, Path(output_path) / _TRAINED)

    def restore(self, folder: Path) -> None:
        """Reads back what :meth:`save` wrote."""
        saved, trained = load_file(folder / _TRAINED), self.trained()
        if saved.keys() != trained.keys():
            raise ValueError(f"{folder} was saved by a run of another shape: resume with the recipe it was begun with")
        for name, tensor in saved.items():
            trained[name].copy_(tensor)


def set_dropout(loaded: LoadedModel, probability: float) -> None:
    """Sets every dropout of a model, those inside attention included."""
    for module in loaded.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        for name in ("attention_dropout", "dropout_prob"):  # what transformers' attention modules call it
            if hasattr(module, name):
                setattr(module, name, probability)


def make_trainable(loaded: LoadedModel, lora: Lora | None) -> None:
    """Marks what is to be trained: LoRA adapters (float32, added in place) and the head, or everything.

    Raises:
        ValueError: If a target is the name of no linear module.
    """
    if lora is None:
        loaded.model.requires_grad_(True)
        return
    from peft import inject_adapter_in_model

    linear = [f".{name}" for name, module in loaded.model.named_modules() if isinstance(module, torch.nn.Linear)]
    absent = [target for target in lora.targets if not any(name.endswith(f".{target}") for name in linear)]
    if absent:
        names = sorted({name.rpartition(".")[2] for name in linear} - {loaded.head})
        raise ValueError(f"lora.targets names {absent}, and the base has no such linear module; it has {names}")
    inject_adapter_in_model(lora_config(loaded, lora), loaded.model)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def lora_config(loaded: LoadedModel, lora: Lora) -> Any:
    """Returns the adapter's configuration as PEFT describes it; a reranker's head is trained and saved whole."""
    from peft import LoraConfig, TaskType

    is_reranker = loaded.head is not None
    return LoraConfig(
        task_type=TaskType.SEQ_CLS if is_reranker else TaskType.FEATURE_EXTRACTION,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(loaded, lora),
        modules_to_save=[loaded.head] if is_reranker else None,
    )


def _targets(loaded: LoadedModel, lora: Lora) -> list[str]:
    """Returns the names that PEFT looks for: last names, or those of the last layers' modules in full."""
    if lora.last_layers is None:
        return list(lora.targets)
    first = max(0, loaded.model.config.num_hidden_layers - lora.last_layers)
    names = [name.split(".") for name, _ in loaded.model.named_modules()]
    layers = [(next((int(part) for part in parts if part.isdecimal()), -1), parts) for parts in names]
    return [".".join(parts) for layer, parts in layers if layer >= first and parts[-1] in lora.targets]


def save_adapter(loaded: LoadedModel, config: Any, base: str, folder: Path) -> None:
    """Writes the trained adapter as PEFT does, so that it is loaded and merged like any other."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
    tensors = {f"base_model.model.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(folder)
