"""An exported folder is what was trained, and every tool here reads it as torch_radar does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.models import CHAT, EOS
from tests.training.runs import write_recipe
from torch_radar import Encoder, Reranker
from torch_radar.checkpoints import load_radar_json
from torch_radar.templates import PAIR_TEMPLATES, frame_texts, framing
from training.export import export
from training.export.agreement import TEXTS, ExportError, pair_halves
from training.export.card import model_card
from training.model import make_trainable
from training.recipe import BaseModel, DataSource, Lora, Recipe, Teacher
from training.run import load_base, save_trained, train

LIMIT = 160
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="session")
def base(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instruct model: its tokenizer has a chat template, and its rotary base is not the default."""
    folder = tmp_path_factory.mktemp("bases") / "base"
    shutil.copytree(tiny_qwen2, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    edited(folder, "config.json", lambda config: config["rope_parameters"].update(rope_theta=1e6))
    return folder


def recipe_of(base: Path, /, **changes: Any) -> Recipe:
    reranker = changes.get("kind") == "reranker"
    model = BaseModel(str(base), "recovered" if reranker else "query-document", "last_token", licence="apache-2.0")
    settings: dict[str, Any] = {
        "kind": "retriever",
        "base": model,
        "data": (DataSource("/somewhere/private/examples.jsonl", weight=0.5),),
        "lora": Lora(rank=4, alpha=8),
        "max_query_tokens": 64,
        "max_document_tokens": LIMIT,
        "max_pair_tokens": LIMIT,
        "precision": "float32",
        "contamination": "Nothing of BRIGHT.",
    }
    return Recipe(**(settings | changes))


def run_folder(recipe: Recipe, folder: Path, *, trained: bool = True) -> Path:
    """What training leaves, with weights moved at random instead of by gradients."""
    loaded, checkpoint = load_base(recipe)
    make_trainable(loaded, recipe.lora)
    torch.manual_seed(3)
    for name, parameter in loaded.model.named_parameters():
        if parameter.requires_grad and (trained or "score" in name):
            parameter.data += 0.05 * torch.randn_like(parameter)
    folder.mkdir()
    save_trained(recipe, loaded, checkpoint, folder)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    return folder


@pytest.fixture(scope="session")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    room, teacher = tmp_path_factory.mktemp("runs"), Teacher("/somewhere/private/teacher", weight=0.25)
    return {
        "retriever": run_folder(recipe_of(base), room / "retriever"),
        "reranker": run_folder(recipe_of(base, kind="reranker", teacher=teacher), room / "reranker"),
        "full": run_folder(recipe_of(base, lora=None), room / "full"),
    }


@pytest.fixture(scope="session")
def retriever(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(runs["retriever"], tmp_path_factory.mktemp("exported") / "my-retriever", device="cpu")


@pytest.fixture(scope="session")
def reranker(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(runs["reranker"], tmp_path_factory.mktemp("exported") / "my-reranker", device="cpu")


def edited(folder: Path, name: str, change: Change) -> None:
    path = folder / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# --- what is written


def test_the_export_gives_the_vectors_of_the_run_and_not_of_its_base(
    retriever: Path, runs: dict[str, Path], base: Path
) -> None:
    ours, trained, untrained = (Encoder(f, device="cpu") for f in (retriever, runs["retriever"], base))
    np.testing.assert_allclose(ours.encode_queries(TEXTS), trained.encode_queries(TEXTS), atol=1e-6)
    assert np.abs(ours.encode_queries(TEXTS) - untrained.encode_queries(TEXTS)).max() > 1e-2


def test_merged_weights_carry_no_prefix_of_an_adapter(retriever: Path, base: Path) -> None:
    assert load_file(retriever / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()


def test_radar_json_says_merged_and_keeps_the_base(retriever: Path, base: Path) -> None:
    checkpoint = load_radar_json(retriever)
    assert (checkpoint.is_adapter, checkpoint.base, checkpoint.max_tokens) == (False, str(base), LIMIT)


def test_sentence_transformers_files_have_the_old_layout(retriever: Path) -> None:
    def read(name: str) -> Any:
        return json.loads((retriever / name).read_text())

    assert [m["type"] for m in read("modules.json")] == [
        f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = read("1_Pooling/config.json")
    assert [key for key, value in pooling.items() if value is True] == ["pooling_mode_lasttoken", "include_prompt"]
    assert pooling["word_embedding_dimension"] == 64
    assert read("sentence_bert_config.json") == {"max_seq_length": LIMIT, "do_lower_case": False}
    settings = read("config_sentence_transformers.json")
    assert settings["prompts"] == {"query": "query: ", "document": "document: "}
    assert settings["similarity_fn_name"] == "cosine"


def test_readers_of_transformers_4_find_the_keys_they_know(retriever: Path) -> None:
    config, tokenizer = (
        json.loads((retriever / f"{name}.json").read_text()) for name in ("config", "tokenizer_config")
    )
    assert (config["rope_theta"], config["torch_dtype"]) == (1e6, "float32")
    assert "<|im_start|>" in tokenizer["additional_special_tokens"] and "extra_special_tokens" not in tokenizer


def test_stretched_rotary_positions_survive(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}
    edited(folder, "config.json", lambda config: config.update(rope_parameters=rope))
    exported = export(run_folder(recipe_of(folder), tmp_path / "run"), tmp_path / "out", device="cpu")
    config = json.loads((exported / "config.json").read_text())
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize("text", ["", "a", "a finite group", "subgroup " * 500])
def test_the_tokenizer_itself_ends_every_text_with_one_eos(retriever: Path, base: Path, text: str) -> None:
    tokenizer, before = (AutoTokenizer.from_pretrained(folder) for folder in (retriever, base))
    frame = framing(before, ends_with_eos=True)
    ids = tokenizer(text, truncation=True)["input_ids"]
    assert [ids] == frame_texts(before, [text], frame, LIMIT)
    assert ids.count(tokenizer.convert_tokens_to_ids(EOS)) == 1
    assert framing(tokenizer, ends_with_eos=True) == frame
    assert tokenizer.padding_side == "right"


def test_a_tokenizer_that_begins_texts_keeps_its_beginning(base: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    tokenizer.save_pretrained(folder)
    exported = export(run_folder(recipe_of(folder), tmp_path / "run"), tmp_path / "out", device="cpu")
    ids = AutoTokenizer.from_pretrained(exported)("a")["input_ids"]
    assert (ids[0], ids[-1], len(ids)) == (start, tokenizer.eos_token_id, 3)


# --- the chat template


def test_sentence_transformers_reads_plain_text_even_beside_a_chat_template(retriever: Path, tmp_path: Path) -> None:
    assert AutoTokenizer.from_pretrained(retriever).chat_template is None
    folder = tmp_path / "with-chat"
    shutil.copytree(retriever, folder)
    (folder / "chat_template.jinja").write_text(CHAT)
    model = SentenceTransformer(str(folder), device="cpu")
    assert model[0].modalities == ["text"]
    expected = Encoder(retriever, device="cpu").encode_queries(TEXTS)
    np.testing.assert_allclose(model.encode_query(list(TEXTS)), expected, atol=1e-5)


# --- rerankers


def test_the_trained_head_is_saved(reranker: Path, runs: dict[str, Path]) -> None:
    head = load_file(reranker / "model.safetensors")["score.weight"]
    saved = load_file(runs["reranker"] / "adapter_model.safetensors")
    assert torch.equal(head, next(tensor for key, tensor in saved.items() if "score" in key))


def test_a_reranker_scores_batches_and_has_one_label_and_no_sigmoid(reranker: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(reranker)
    tokenizer = AutoTokenizer.from_pretrained(reranker)
    assert (model.config.num_labels, model.config.pad_token_id) == (1, tokenizer.pad_token_id)
    assert model.config.sentence_transformers["activation_fn"] == "torch.nn.modules.linear.Identity"
    form = load_radar_json(reranker).template
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    texts = [form.head(q) + d + form.after_document for q, d in pairs]
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0].numpy()
    np.testing.assert_allclose(logits, Reranker(reranker, device="cpu").score(pairs), atol=1e-5)


@pytest.mark.parametrize("name", ["recovered", "authors"])
def test_two_halves_are_tokenised_as_the_whole_pair_with_eos_at_the_end_alone(reranker: Path, name: str) -> None:
    tokenizer, form = AutoTokenizer.from_pretrained(reranker), PAIR_TEMPLATES[name]
    for query, document in zip(TEXTS, TEXTS[::-1], strict=True):
        whole = tokenizer(form.head(query) + document + form.after_document)["input_ids"]
        assert tokenizer(*pair_halves(form, query, document))["input_ids"] == whole
        assert whole.index(tokenizer.eos_token_id) == len(whole) - 1


def test_the_cross_encoder_of_sentence_transformers_gives_the_logits(reranker: Path) -> None:
    form = load_radar_json(reranker).template
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    model = CrossEncoder(str(reranker), device="cpu")
    scores = model.predict([pair_halves(form, q, d) for q, d in pairs])
    np.testing.assert_allclose(scores, Reranker(reranker, device="cpu").score(pairs), atol=1e-5)


# --- other shapes


def test_a_mean_pooled_bert_is_exported_with_its_own_special_tokens(tmp_path: Path) -> None:
    recipe = recipe_of(
        Path("all-MiniLM-L6-v2"),
        base=BaseModel("all-MiniLM-L6-v2", "plain", "mean", licence="apache-2.0"),
        lora=Lora(rank=2, targets=("query", "value")),
    )
    folder = export(run_folder(recipe, tmp_path / "run"), tmp_path / "out", device="cpu")
    assert json.loads((folder / "1_Pooling/config.json").read_text())["pooling_mode_mean_tokens"] is True
    assert AutoTokenizer.from_pretrained(folder)("a")["input_ids"][-1] == 102  # [SEP]


def test_a_run_of_all_weights_is_exported(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = export(runs["full"], tmp_path / "out", device="cpu")
    ours, trained = (Encoder(f, device="cpu").encode_documents(TEXTS) for f in (folder, runs["full"]))
    np.testing.assert_allclose(ours, trained, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["retriever", "reranker"])
def test_sixteen_bits_are_rounded_after_merging(runs: dict[str, Path], tmp_path: Path, dtype: str, kind: str) -> None:
    folder = export(runs[kind], tmp_path / "out", dtype=dtype, device="cpu")
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype


def test_an_adapter_alone_is_copied_and_gives_the_same_vectors(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = export(runs["retriever"], tmp_path / "out", adapter_only=True, device="cpu")
    assert not (folder / "model.safetensors").exists()
    ours, trained = (Encoder(f, device="cpu").encode_documents(TEXTS) for f in (folder, runs["retriever"]))
    np.testing.assert_array_equal(ours, trained)
    with pytest.raises(ExportError, match="no adapter"):
        export(runs["full"], tmp_path / "other", adapter_only=True, device="cpu")


# --- nothing wrong gets a name


def test_an_existing_folder_is_not_overwritten(runs: dict[str, Path], retriever: Path) -> None:
    with pytest.raises(ExportError, match="exists already"):
        export(runs["retriever"], retriever)


def test_weights_of_the_base_are_refused_and_nothing_is_left(base: Path, tmp_path: Path) -> None:
    run = run_folder(recipe_of(base, lora=None), tmp_path / "run", trained=False)
    with pytest.raises(ExportError, match="nothing was trained"):
        export(run, tmp_path / "out", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_weights_too_large_for_float16_are_refused(base: Path, tmp_path: Path) -> None:
    run = run_folder(recipe_of(base, lora=None), tmp_path / "run")
    tensors = load_file(run / "model.safetensors")
    tensors["norm.weight"][0] = 1e6
    save_file(tensors, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match="norm.weight holds numbers that float16 cannot"):
        export(run, tmp_path / "out", dtype="float16", device="cpu")


def mean_instead(pooling: dict[str, Any]) -> None:
    pooling.update(pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)


def other_prefix(settings: dict[str, Any]) -> None:
    settings["prompts"]["query"] = "Query: "


def shorter(settings: dict[str, Any]) -> None:
    settings["max_seq_length"] = LIMIT - 1


@pytest.mark.parametrize(
    ("file", "change", "which"),
    [
        ("1_Pooling/config.json", mean_instead, "(query|document)"),
        ("config_sentence_transformers.json", other_prefix, "query"),
        ("sentence_bert_config.json", shorter, "(query|document) 'Suppose"),
    ],
)
def test_a_disagreement_names_the_tool_the_text_and_the_distance(
    retriever: Path, tmp_path: Path, file: str, change: Change, which: str
) -> None:
    from training.export.agreement import check_agreement

    folder = tmp_path / "spoilt"
    shutil.copytree(retriever, folder)
    edited(folder, file, change)
    weights = load_file(folder / "model.safetensors")
    with pytest.raises(ExportError, match=rf"Sentence Transformers and torch_radar are .* apart for the {which}"):
        check_agreement(load_radar_json(folder), folder, weights, torch.device("cpu"))


def test_a_tokenizer_without_eos_is_found_out(retriever: Path, base: Path, tmp_path: Path) -> None:
    from training.export.agreement import check_agreement

    folder = tmp_path / "spoilt"
    shutil.copytree(retriever, folder)
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    weights = load_file(folder / "model.safetensors")
    with pytest.raises(ExportError, match="transformers and torch_radar are"):
        check_agreement(load_radar_json(folder), folder, weights, torch.device("cpu"))


def test_tensors_lost_on_the_way_are_found_out(reranker: Path, tmp_path: Path) -> None:
    from training.export.agreement import check_agreement

    folder = tmp_path / "spoilt"
    shutil.copytree(reranker, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {key: tensor for key, tensor in weights.items() if key != "score.weight"}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"missing_keys.*score\.weight"):
        check_agreement(load_radar_json(folder), folder, weights, torch.device("cpu"))


# --- the card


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_has_front_matter_exact_strings_and_no_local_path(retriever: Path, base: Path) -> None:
    card = (retriever / "README.md").read_text()
    matter = front_matter(card)
    assert (matter["license"], matter["pipeline_tag"]) == ("apache-2.0", "sentence-similarity")
    assert matter["library_name"] == "sentence-transformers"
    assert "'query: {query}'" in card and "'document: {document}'" in card
    assert "Nothing of BRIGHT." in card and "examples.jsonl" in card
    assert "/somewhere" not in card and str(base) not in card and "base_model" not in matter


def test_the_card_of_a_reranker_shows_code_that_scores(reranker: Path) -> None:
    card = (reranker / "README.md").read_text()
    assert front_matter(card)["pipeline_tag"] == "text-ranking"
    assert "| teacher | 0.25 of the target: softmax of the cosines of teacher, divided by 0.05 |" in card
    code = next(part for part in card.split("```python\n")[1:] if "AutoModelForSequence" in part).split("```")[0]
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    scope: dict[str, Any] = {"pairs": pairs}
    exec(code.replace('"my-reranker"', repr(str(reranker))), scope)  # the card's own text, written a moment ago
    np.testing.assert_allclose(scope["scores"], Reranker(reranker, device="cpu").score(pairs), atol=1e-5)


def test_the_card_tables_what_the_caller_measured(retriever: Path) -> None:
    checkpoint = replace(load_radar_json(retriever), base="Qwen/Qwen2.5-3B-Instruct", licence="Qwen Research")
    card = model_card(checkpoint, results={"BRIGHT AoPS": {"nDCG@10": 0.1234}, "MATH": {"R@100": 0.5}})
    assert "| BRIGHT AoPS | 0.1234 | – |" in card and "| MATH | – | 0.5000 |" in card
    matter = front_matter(card)
    assert matter["base_model"] == "Qwen/Qwen2.5-3B-Instruct"
    assert (matter["license"], matter["license_name"]) == ("other", "Qwen Research")
    assert "Nobody has stated" in card


def test_a_base_that_reads_latex_is_read_alike_by_every_tool(data, tmp_path) -> None:
    base = {"name": "all-MiniLM-L6-v2", "template": "plain", "pooling": "mean", "reads_latex": True}
    lora = {"rank": 2, "alpha": 4, "dropout": 0, "targets": ["query"], "last_layers": 1}
    recipe = write_recipe(
        tmp_path / "r.yaml", tmp_path, "retriever", data, base=base, lora=lora, max_steps=2, warmup_steps=0
    )
    output = export(train(recipe, tmp_path / "run"), tmp_path / "out")  # compares torch_radar and Sentence Transformers
    assert json.loads((output / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoTokenizer.from_pretrained(output).tokenize(r"$\mathcal{F}$") == ["f"]
