"""Checkpoints are data, and nothing about them is guessed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_radar.checkpoints import (
    CHECKPOINTS,
    MINILM,
    SMALL_DEFAULT,
    Checkpoint,
    CheckpointError,
    load_radar_json,
    resolve,
    save_radar_json,
)
from torch_radar.loading import weights_folder
from torch_radar.templates import PLAIN, QUERY_DOCUMENT, RECOVERED_PAIR, TextTemplate

RELEASED = {
    "RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical": ("retriever", False),
    "RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical": ("retriever", False),
    "RaDeR_Qwen25_3B_NuminaMath_MATH_allquerytypes": ("retriever", False),
    "RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes": ("retriever", False),
    "RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes": ("retriever", False),
    "lora_RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical": ("retriever", True),
    "lora_RaDeR_Qwen25-7B_instruct_MATH_LLMq_CoT_lexical": ("retriever", True),
    "reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes": ("reranker", True),
    "RaDeR_reranker_Qwen2-7B-instruct_MATH_qCoT_LLMquery_lexicalquery": ("reranker", False),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_checkpoint_is_known_with_and_without_its_organisation(name: str) -> None:
    checkpoint = resolve(name)
    assert checkpoint is resolve(f"Raderspace/{name}")
    assert (checkpoint.kind, checkpoint.is_adapter) == RELEASED[name]
    assert checkpoint.pooling == "last_token"
    assert checkpoint.base


def test_nothing_else_is_released() -> None:
    assert {name.removeprefix("Raderspace/") for name in CHECKPOINTS} == set(RELEASED) | {
        SMALL_DEFAULT.name,
        MINILM.name,
    }


def test_retrievers_use_the_evaluation_form_and_the_lora_reranker_the_recovered_one() -> None:
    assert {c.template for c in CHECKPOINTS.values() if c.kind == "retriever" and c.template != PLAIN} == {
        QUERY_DOCUMENT
    }
    assert resolve("reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes").template == RECOVERED_PAIR


def test_no_name_is_the_small_default() -> None:
    assert resolve(None) is SMALL_DEFAULT


def test_what_the_package_says_of_radar_mini_is_what_its_folder_says() -> None:
    packaged = load_radar_json(weights_folder(SMALL_DEFAULT.name))
    assert replace(packaged, name=SMALL_DEFAULT.name) == SMALL_DEFAULT


def test_a_misspelt_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="(?s)unknown checkpoint 'RaDeR_7B': .*RaDeR_gte_Qwen2-7B"):
        resolve("RaDeR_7B")
    with pytest.raises(CheckpointError, match="did you mean Raderspace/RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical"):
        resolve("RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexcal")


@given(
    query=st.text(st.characters(codec="utf-8"), max_size=20),
    document=st.text(st.characters(codec="utf-8"), max_size=20),
    eos=st.booleans(),
    limit=st.integers(1, 10**6),
)
def test_radar_json_carries_a_text_form_unchanged(tmp_path_factory, query, document, eos, limit) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    written = Checkpoint(str(folder), "retriever", TextTemplate("own", query, document, eos), "last_token", limit)
    save_radar_json(folder, written)
    assert resolve(folder) == written


def test_a_folder_without_radar_json_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no radar\.json.*save_radar_json"):
        resolve(tmp_path)


def test_a_local_copy_named_like_a_released_checkpoint_is_that_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical"
    folder.mkdir()
    checkpoint = resolve(folder)
    assert checkpoint.name == str(folder)
    assert checkpoint.template == QUERY_DOCUMENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("template"), "not a radar.json"),
        (lambda r: r.pop("pooling"), "not a radar.json"),
        (lambda r: r.update(pooling="max"), "pooling 'max' is unknown"),
        (lambda r: r.update(max_tokens=0), "max_tokens must be a positive"),
        (lambda r: r.update(format=99), "another format"),
        (lambda r: r.update(kind="ranker"), "not a radar.json"),
        (lambda r: r.update(colour="red"), "not a radar.json"),
    ],
)
def test_a_broken_radar_json_is_an_error_not_a_default(tmp_path: Path, change, message: str) -> None:
    path = save_radar_json(tmp_path, Checkpoint("x", "retriever", QUERY_DOCUMENT, "last_token", 512))
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=message):
        load_radar_json(tmp_path)


def test_garbage_in_radar_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "radar.json").write_bytes(b"\xff{]")
    with pytest.raises(CheckpointError, match="not a radar.json"):
        resolve(tmp_path)
