"""Weights are loaded whole, merged in float32, and verified."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from tests.models import qwen_config, qwen_tokenizer, save_qwen_retriever
from torch_radar.checkpoints import MINILM, Checkpoint, CheckpointError
from torch_radar.encoder import Encoder
from torch_radar.loaded import LoadedModel
from torch_radar.loading import LazyModel, choose_device, choose_dtype, weights_digest
from torch_radar.reranker import Reranker
from torch_radar.templates import QUERY_DOCUMENT, RECOVERED_PAIR

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TEXTS = ["Let $G$ be a group.", "The ferry leaves at noon", ""]


def load(checkpoint: Checkpoint, dtype: str = "float32") -> LoadedModel:
    return LazyModel(checkpoint, device="cpu", dtype=dtype).loaded


def retriever(folder: Path, **changes: object) -> Checkpoint:
    return replace(Checkpoint(str(folder), "retriever", QUERY_DOCUMENT, "last_token", 512), **changes)


def randomise_lora(model: torch.nn.Module) -> None:
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.fixture(scope="module")
def lora_retriever(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("lora")
    model = get_peft_model(
        AutoModel.from_pretrained(tiny_qwen2),
        LoraConfig(r=4, lora_alpha=16, target_modules=TARGETS, task_type=TaskType.FEATURE_EXTRACTION),
    )
    randomise_lora(model)
    model.save_pretrained(folder)
    return retriever(folder, base=str(tiny_qwen2), is_adapter=True)


def test_a_lora_checkpoint_equals_its_merged_weights_and_not_its_base(
    lora_retriever: Checkpoint, tiny_qwen2: Path, tmp_path: Path
) -> None:
    deltas = load_file(Path(lora_retriever.name) / "adapter_model.safetensors")
    weights = load_file(tiny_qwen2 / "model.safetensors")
    for key, b in deltas.items():
        if "lora_B" in key:
            name = key.removeprefix("base_model.model.").replace(".lora_B.weight", ".weight")
            weights[name] = weights[name] + (16 / 4) * b @ deltas[key.replace("lora_B", "lora_A")]
    merged = tmp_path / "merged"
    save_qwen_retriever(merged)
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})

    ours = Encoder(lora_retriever).encode_documents(TEXTS)
    by_hand = Encoder(retriever(merged)).encode_documents(TEXTS)
    base = Encoder(retriever(tiny_qwen2)).encode_documents(TEXTS)
    assert abs(ours - by_hand).max() <= 1e-5
    assert abs(ours - base).max() > 1e-2


def test_lora_is_merged_in_float32_before_the_cast(lora_retriever: Checkpoint) -> None:
    in_bfloat16 = load(lora_retriever, "bfloat16").model
    in_float32 = load(lora_retriever).model
    for ours, exact in zip(in_bfloat16.parameters(), in_float32.parameters(), strict=True):
        assert torch.equal(ours, exact.bfloat16())


def test_rotary_frequencies_stay_float32_in_a_bfloat16_model(lora_retriever: Checkpoint, tiny_qwen2: Path) -> None:
    for checkpoint in (lora_retriever, retriever(tiny_qwen2)):
        model = load(checkpoint, "bfloat16").model
        assert model.rotary_emb.inv_freq.dtype == torch.float32
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_an_adapter_taken_for_merged_weights_is_refused(lora_retriever: Checkpoint) -> None:
    shutil.copy(Path(lora_retriever.base) / "model.safetensors", lora_retriever.name)
    with pytest.raises(CheckpointError, match="holds a LoRA adapter"):
        load(replace(lora_retriever, is_adapter=False))
    (Path(lora_retriever.name) / "model.safetensors").unlink()


def test_an_adapter_over_the_wrong_base_is_refused(lora_retriever: Checkpoint, tmp_path: Path) -> None:
    shallow = save_qwen_retriever(tmp_path / "shallow", layers=1)
    with pytest.raises(CheckpointError, match=r"tensors of .* did not reach the model.*really its base"):
        load(replace(lora_retriever, base=str(shallow)))


def test_an_adapter_that_changes_nothing_is_refused(tiny_qwen2: Path, tmp_path: Path) -> None:
    model = get_peft_model(AutoModel.from_pretrained(tiny_qwen2), LoraConfig(r=2, target_modules=TARGETS))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="changes nothing"):
        load(retriever(tmp_path, base=str(tiny_qwen2), is_adapter=True))


def _save_lora_reranker(folder: Path, *, with_head: bool) -> Checkpoint:
    torch.manual_seed(5)
    tokenizer = qwen_tokenizer()
    base = folder / "base"
    config = qwen_config(tokenizer, hidden=64, layers=2)
    Qwen2ForCausalLM(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = get_peft_model(
        Qwen2ForSequenceClassification.from_pretrained(base, num_labels=1),
        LoraConfig(r=4, target_modules=TARGETS, modules_to_save=["score"] if with_head else None),
    )
    randomise_lora(model)
    model.save_pretrained(folder / "adapter")
    torch.save(model.merge_and_unload().score.weight, folder / "head.pt")
    return Checkpoint(
        str(folder / "adapter"),
        "reranker",
        RECOVERED_PAIR,
        "last_token",
        512,
        base=str(base),
        is_adapter=True,
    )


def test_a_lora_reranker_loads_its_trained_score_head(tmp_path: Path) -> None:
    checkpoint = _save_lora_reranker(tmp_path, with_head=True)
    head = torch.load(tmp_path / "head.pt", weights_only=True)
    assert torch.equal(load(checkpoint).model.score.weight, head)
    assert Reranker(checkpoint).score([("a", "b")]).dtype == "float32"


def test_a_reranker_whose_head_was_not_saved_is_refused(tmp_path: Path) -> None:
    checkpoint = _save_lora_reranker(tmp_path, with_head=False)
    with pytest.raises(CheckpointError, match=r"would be random.*score\.weight"):
        load(checkpoint)


def test_weights_with_adapter_prefixes_are_refused_instead_of_silently_random(tiny_qwen2: Path, tmp_path: Path) -> None:
    save_qwen_retriever(tmp_path)
    weights = {f"base_model.model.{k}": v for k, v in load_file(tiny_qwen2 / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="would be random"):
        load(retriever(tmp_path))


def test_pickled_weights_are_not_loaded(tiny_qwen2: Path, tmp_path: Path) -> None:
    save_qwen_retriever(tmp_path)
    torch.save(load_file(tiny_qwen2 / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no .safetensors"):
        load(retriever(tmp_path))


def test_a_hub_name_without_a_network_says_what_to_do() -> None:
    encoder = Encoder("RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical", device="cpu")
    with pytest.raises(CheckpointError, match="could not fetch .*give the path of its folder"):
        encoder.encode_queries(["a"])


def test_causality_is_measured_on_the_module(tiny_qwen2: Path, tmp_path: Path) -> None:
    assert load(retriever(tiny_qwen2)).is_causal
    save_qwen_retriever(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"hidden_act"', '"is_causal": false,\n  "hidden_act"'))
    assert not load(retriever(tmp_path)).is_causal


def test_the_digest_follows_the_weights_not_the_path(tiny_qwen2: Path, tmp_path: Path) -> None:
    save_qwen_retriever(tmp_path)
    assert weights_digest(tmp_path) == weights_digest(tiny_qwen2)
    weights = load_file(tmp_path / "model.safetensors")
    weights["layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert weights_digest(tmp_path) != weights_digest(tiny_qwen2)


def test_devices_and_precisions_are_checked_by_name() -> None:
    assert choose_dtype(torch.device("cuda")) is torch.bfloat16
    assert choose_dtype(torch.device("cpu")) is torch.float32
    with pytest.raises(ValueError, match="unknown dtype 'fp16': use one of float32"):
        choose_dtype(torch.device("cpu"), "fp16")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' is not available"):
            choose_device("cuda")


def test_the_last_layer_feeds_forward_the_last_tokens_alone(tiny_qwen2: Path) -> None:
    loaded = load(retriever(tiny_qwen2))
    ids = torch.randint(5, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 4, 1])
    widths = []
    mlp = loaded.backbone.get_submodule("layers")[-1].mlp
    watch = mlp.register_forward_hook(lambda _, inputs, output: widths.append(output.shape[1]))
    with torch.inference_mode():
        last = loaded.last_token_states(ids, lengths)
        states = loaded.states(ids)
    watch.remove()
    assert widths == [1, 9]
    torch.testing.assert_close(last, states[torch.arange(3), lengths - 1])


def test_cls_pooling_of_a_retriever_reads_the_first_token_and_not_the_mean() -> None:
    loaded = load(replace(MINILM, pooling="cls"))
    ids = torch.randint(5, 900, (2, 7), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 3])
    with torch.inference_mode():
        vectors = loaded.vectors(ids, lengths, "cls")
        alone = loaded.states(ids[1:, :3])[:, 0]
    torch.testing.assert_close(vectors[1:], torch.nn.functional.normalize(alone, dim=-1))
    assert not torch.allclose(vectors, loaded.vectors(ids, lengths, "mean"), atol=1e-2)
