"""The metadata is true, agrees with the core, and works where nothing else of this project is installed."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import mteb
import numpy as np
import pytest
import torch
from mteb.models.model_implementations import MODEL_REGISTRY
from transformers import Qwen2Config, Qwen2Model

from mteb_radar import RadarReranker, RadarSearch, models, register
from mteb_radar.facts import METAS
from tests.mteb_radar.batches import METADATA, WHERE, loader
from torch_radar import CHECKPOINTS, Encoder, Reranker, bright_instruction
from torch_radar.checkpoints import RADAR_JSON
from torch_radar.instructions import BRIGHT_SPLITS
from torch_radar.templates import AUTHORS_PAIR, QUERY_DOCUMENT, RECOVERED_PAIR, PairTemplate

TEXTS = ["If $G$ is finite, $|H|$ divides $|G|$.", "short", "定理 " * 40, ""]

# Hidden, feed-forward, layers, heads, key-value heads, vocabulary: the bases' config.json.
ARCHITECTURES = {
    "Qwen/Qwen2.5-3B-Instruct": (2048, 11008, 36, 16, 2, 151936),
    "Qwen/Qwen2.5-7B-Instruct": (3584, 18944, 28, 28, 4, 152064),
    "Qwen/Qwen2.5-14B-Instruct": (5120, 13824, 48, 40, 8, 152064),
    "Alibaba-NLP/gte-Qwen2-7B-instruct": (3584, 18944, 28, 28, 4, 151646),
}


def test_every_released_checkpoint_has_metadata() -> None:
    released = {name: c for name, c in CHECKPOINTS.items() if name.startswith("Raderspace/")}
    assert METAS.keys() == released.keys()
    for name, checkpoint in released.items():
        assert METAS[name].adapted_from == checkpoint.base
        assert METAS[name].is_cross_encoder == (checkpoint.kind == "reranker")
        assert METAS[name].loader_kwargs.get("base") == (checkpoint.base if checkpoint.is_adapter else None)


def test_every_metadata_is_an_attribute_that_mtebs_discovery_finds() -> None:
    found = {
        getattr(models, name).name for name in dir(models) if isinstance(getattr(models, name), mteb.models.ModelMeta)
    }
    assert found == METAS.keys()


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_sizes_are_those_of_the_architecture(base: str) -> None:
    hidden, forward, layers, heads, key_value_heads, vocabulary = ARCHITECTURES[base]
    with torch.device("meta"):
        model = Qwen2Model(
            Qwen2Config(
                hidden_size=hidden,
                intermediate_size=forward,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=key_value_heads,
                vocab_size=vocabulary,
            )
        )
    parameters, embeddings, dimension, _ = models._SIZES[base]
    assert parameters == sum(p.numel() for p in model.parameters())
    assert embeddings == model.embed_tokens.weight.numel()
    assert dimension == hidden


def test_gtes_sizes_are_those_in_mteb() -> None:
    theirs = mteb.get_model_meta("Alibaba-NLP/gte-Qwen2-7B-instruct")
    ours = METAS["Raderspace/RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical"]
    assert (ours.n_parameters, ours.n_embedding_parameters, ours.embed_dim) == (
        theirs.n_parameters,
        theirs.n_embedding_parameters,
        theirs.embed_dim,
    )


def test_contamination_is_declared() -> None:
    for meta in METAS.values():
        assert meta.is_zero_shot_on(["BrightTheoremQATheoremsRetrieval"]) is False
        assert meta.is_zero_shot_on(["BrightAopsRetrieval"]) is False
        assert meta.is_zero_shot_on(["BrightPonyRetrieval"]) is True


def test_the_prompts_cover_bright_and_are_the_cores() -> None:
    tasks = {task.metadata.name for task in mteb.get_benchmark("BRIGHT(v1.1)").tasks}
    assert models.PROMPTS.keys() == tasks
    expected = {bright_instruction(s, long=long) for s in BRIGHT_SPLITS for long in (False, True)}
    assert set(models.PROMPTS.values()) <= expected
    assert models.PROMPTS["BrightEarthScienceLongRetrieval"] == bright_instruction("earth_science", long=True)
    assert models.PROMPTS["BrightTheoremQATheoremsRetrieval"] == bright_instruction("theoremqa_theorems")


def test_the_text_forms_are_the_cores() -> None:
    assert (models.QUERY_PREFIX, models.DOCUMENT_PREFIX) == (
        QUERY_DOCUMENT.query_prefix,
        QUERY_DOCUMENT.document_prefix,
    )
    assert PairTemplate("authors", *models.AUTHORS_PAIR) == AUTHORS_PAIR
    assert PairTemplate("recovered", *models.RECOVERED_PAIR) == RECOVERED_PAIR
    for name, meta in METAS.items():
        if meta.is_cross_encoder:
            assert (
                PairTemplate(CHECKPOINTS[name].template.name, *meta.loader_kwargs["template"])
                == CHECKPOINTS[name].template
            )
            assert CHECKPOINTS[name].max_tokens == models.MAX_PAIR_TOKENS
        else:
            assert CHECKPOINTS[name].max_tokens == models.MAX_TOKENS


@pytest.mark.parametrize("max_tokens", [8192, 24])
def test_the_plain_retriever_gives_the_cores_vectors(tiny_qwen2: Path, max_tokens: int) -> None:
    plain = models.RaDeRRetriever(str(tiny_qwen2), device="cpu", max_tokens=max_tokens, batch_tokens=64)
    core = Encoder(tiny_qwen2, max_query_tokens=max_tokens, max_document_tokens=max_tokens)
    bright = METADATA.model_copy(update={"name": "BrightPonyRetrieval"})
    queries = plain.encode(loader(TEXTS), task_metadata=bright, prompt_type=mteb.types.PromptType.query, **WHERE)
    documents = plain.encode(loader(TEXTS), task_metadata=bright, prompt_type=mteb.types.PromptType.document, **WHERE)
    with_instruction = core.with_instruction(bright_instruction("pony"))
    np.testing.assert_allclose(queries, with_instruction.encode_queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(documents, core.encode_documents(TEXTS), atol=1e-5)


@pytest.mark.parametrize("max_tokens", [4096, 60])
def test_the_plain_reranker_gives_the_cores_scores(tiny_qwen2_reranker: Path, max_tokens: int) -> None:
    queries, documents = ["why?", "why?", "how many?"], ["short", "a longer document " * 20, "定理"]
    plain = models.RaDeRReranker(
        str(tiny_qwen2_reranker), device="cpu", template=models.RECOVERED_PAIR, max_tokens=max_tokens, batch_tokens=64
    )
    scores = plain.predict(loader(queries), loader(documents), task_metadata=METADATA, **WHERE)
    core = Reranker(tiny_qwen2_reranker, max_tokens=max_tokens)
    np.testing.assert_allclose(scores, core.score(zip(queries, documents, strict=True)), atol=1e-5)


def test_buffers_keep_their_precision(tiny_qwen2: Path, tiny_qwen2_reranker: Path) -> None:
    for loaded in (
        models.RaDeRRetriever(str(tiny_qwen2), device="cpu", dtype="bfloat16"),
        models.RaDeRReranker(str(tiny_qwen2_reranker), device="cpu", dtype="bfloat16"),
    ):
        assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
        assert {b.dtype for b in loaded.model.buffers() if b.is_floating_point()} == {torch.float32}


def test_weights_that_are_missing_are_an_error(tiny_qwen2: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks weights .*score"):
        models.RaDeRReranker(str(tiny_qwen2), device="cpu")


def test_registered_models_are_ours_by_name() -> None:
    reranker = "Raderspace/reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes"
    with patch.dict(MODEL_REGISTRY):
        register()
        name = "Raderspace/RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical"
        assert mteb.get_model_meta(name).loader is RadarSearch
        assert mteb.get_model_meta(reranker).loader is RadarReranker


def test_a_registered_model_keeps_the_commit_that_was_fetched(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, commit = "Raderspace/RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes", "1" * 40
    snapshot = tmp_path / "snapshots" / commit
    snapshot.parent.mkdir()
    snapshot.symlink_to(tiny_qwen2)
    for module in ("mteb_radar.facts", "torch_radar.loading"):
        monkeypatch.setattr(f"{module}.weights_folder", lambda name, revision=None: snapshot)
    with patch.dict(MODEL_REGISTRY):
        register()
        loaded = mteb.get_model(name, device="cpu", folder=tmp_path / "vectors").mteb_model_meta
        assert (loaded.name, loaded.revision, loaded.experiment_kwargs) == (name, commit, None)
        with pytest.raises(ValueError, match="has vectors of 5120 values, not 64"):
            mteb.get_model(name, embed_dim=64)


def test_licences_are_ones_that_mteb_knows_or_addresses() -> None:
    from mteb.types import Licenses

    for meta in METAS.values():
        assert meta.license in get_args(Licenses) or str(meta.license).startswith("https://")


def test_the_file_alone_loads_a_checkpoint_where_nothing_else_of_ours_can_be_imported(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rader_models.py").write_text(Path(models.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    ours = ("torch_radar", "mteb_radar", "pyterrier_radar", "radar_bm25", "synthesis", "training", "radar_cli")
    for name in {*ours, *sys.modules}:
        if name.partition(".")[0] in ours:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        import_module("torch_radar.loading")
    monkeypatch.setitem(sys.modules, "rader_models", None)  # so that it is gone afterwards
    del sys.modules["rader_models"]
    monkeypatch.syspath_prepend(tmp_path)
    alone = import_module("rader_models")
    assert (tiny_qwen2 / RADAR_JSON).is_file()  # it is not needed
    meta = alone.rader_qwen25_7b_all.model_copy(update={"name": str(tiny_qwen2)})
    model = meta.load_model(device="cpu")
    vectors = model.encode(loader(["a", "b"]), task_metadata=METADATA, **WHERE)
    assert vectors.shape == (2, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.mteb_model_meta.embed_dim == 3584
