"""What Sentence Transformers, PEFT and transformers do silently to models of this family, and a run must not."""

from __future__ import annotations

import json

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.training.runs import write_recipe
from training.model import TextModel, make_trainable
from training.plan import plan_rows
from training.run import load_base, train


def test_a_new_head_is_saved_with_the_adapter_and_not_left_frozen(base, data, tmp_path) -> None:
    # PEFT's add_adapter on a sequence classifier leaves a random head frozen and unsaved.
    output = train(write_recipe(tmp_path / "r.yaml", base, "reranker", data, max_steps=2), tmp_path / "out")
    saved = load_file(output / "adapter_model.safetensors")
    assert json.loads((output / "adapter_config.json").read_text())["modules_to_save"] == ["score"]
    assert "base_model.model.score.weight" in saved
    # Prefixed twice, as after merging by hand, a reload gives random weights without a word.
    assert not any("base_model.model.base_model" in name for name in saved)


def test_adapters_over_a_bfloat16_base_are_not_bfloat16(base, data, tmp_path) -> None:
    named = {"name": str(base), "template": "query-document", "pooling": "last_token", "dtype": "bfloat16"}
    loaded, _ = load_base(recipe := write_recipe(tmp_path / "r.yaml", base, "retriever", data, base=named))
    make_trainable(loaded, recipe.lora)
    of = {name: parameter.dtype for name, parameter in loaded.model.named_parameters()}
    assert {dtype for name, dtype in of.items() if "lora_" in name} == {torch.float32}
    assert {dtype for name, dtype in of.items() if "lora_" not in name} == {torch.bfloat16}


def test_vectors_are_normalised_in_float32_under_bfloat16(base, data, tmp_path) -> None:
    loaded, checkpoint = load_base(write_recipe(tmp_path / "r.yaml", base, "retriever", data))
    ids = torch.randint(0, 300, (6, 20))
    with torch.autocast("cpu", torch.bfloat16):
        vectors = TextModel(loaded, checkpoint)({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    norms = vectors["sentence_embedding"].double().norm(dim=1)
    assert vectors["sentence_embedding"].dtype == torch.float32
    np.testing.assert_allclose(norms.detach(), 1, atol=1e-6)


def test_batches_stay_full_where_all_queries_share_a_few_documents() -> None:
    # The library's NO_DUPLICATES sampler gives batches of one to three here.
    batches = plan_rows(np.ones(80), epochs=1, batch=8, seed=0).reshape(-1, 8)
    assert len(batches) == 10


def test_a_fully_trained_reranker_scores_batches_in_transformers(base, data, tmp_path) -> None:
    # Without pad_token_id in its config, a batch of more than one raises.
    recipe = write_recipe(tmp_path / "r.yaml", base, "reranker", data, lora=None, max_steps=1)
    output = train(recipe, tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(output).eval()
    batch = AutoTokenizer.from_pretrained(output)(["short", "a longer text"], padding=True, return_tensors="pt")
    assert model(**batch).logits.shape == (2, 1)
    assert model.config.pad_token_id is not None
