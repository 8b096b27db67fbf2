"""The wrappers: forms, instructions, metadata, mteb's own checks, and the guard of the cross-encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol
from mteb.results import TaskResult
from mteb.types import PromptType

from mteb_radar import (
    RadarEncoder,
    RadarReranker,
    RadarSearch,
    Rankings,
    as_reranking,
    load_model,
    local_task,
)
from mteb_radar.facts import METAS
from tests.mteb_radar.batches import METADATA, WHERE, loader
from torch_radar import Encoder, Reranker, bright_instruction
from torch_radar.templates import TextTemplate

TEXTS = ["Why is the sum finite?", "A series converges.", "x"]


def _named(name: str):
    return METADATA.model_copy(update={"name": name})


def test_the_protocols_are_mtebs(tiny_qwen2: Path, tiny_qwen2_reranker: Path) -> None:
    assert isinstance(RadarSearch(tiny_qwen2), SearchProtocol)
    assert isinstance(RadarSearch(tiny_qwen2), EncoderProtocol)
    assert not isinstance(RadarEncoder(tiny_qwen2), SearchProtocol)
    assert isinstance(RadarReranker(tiny_qwen2_reranker), CrossEncoderProtocol)


def test_mtebs_28_mock_tasks_pass(tiny_qwen2: Path) -> None:
    outcomes = {name: o for name, o in mteb.mock_run(RadarSearch(tiny_qwen2)).items() if o is not None}
    assert {name: o for name, o in outcomes.items() if not isinstance(o, TaskResult)} == {}
    assert len(outcomes) == 28


def test_mtebs_mock_tasks_for_cross_encoders_pass(tiny_qwen2_reranker: Path) -> None:
    outcomes = {n: o for n, o in mteb.mock_run(RadarReranker(tiny_qwen2_reranker)).items() if o is not None}
    failed = {name: str(o) for name, o in outcomes.items() if not isinstance(o, TaskResult)}
    # a retrieval task gives a cross-encoder nothing to rerank
    assert all("requires top_ranked" in message for message in failed.values()), failed
    assert len(outcomes) > len(failed)


def test_queries_have_their_tasks_instruction_and_documents_none(tiny_qwen2: Path) -> None:
    ours, core = RadarEncoder(tiny_qwen2), Encoder(tiny_qwen2)
    for name, instruction in {
        "BrightPonyRetrieval": bright_instruction("pony"),
        "BrightPonyLongRetrieval.gpt4_reason": bright_instruction("pony", long=True),
        "ARCChallenge": "",
    }.items():
        queries = ours.encode(loader(TEXTS), task_metadata=_named(name), prompt_type=PromptType.query, **WHERE)
        expected = core.with_instruction(instruction).encode_queries(TEXTS)
        np.testing.assert_array_equal(queries, expected)
    documents = ours.encode(
        loader(TEXTS), task_metadata=_named("BrightPonyRetrieval"), prompt_type=PromptType.document, **WHERE
    )
    np.testing.assert_array_equal(documents, core.encode_documents(TEXTS))
    assert not np.allclose(queries, documents)


def test_one_instruction_can_be_set_for_every_task_and_keeps_results_apart(tiny_qwen2: Path) -> None:
    chosen = RadarEncoder(tiny_qwen2, instruction="Retrieve the answer.\n ")
    assert chosen.instruction_of("BrightPonyRetrieval") == "Retrieve the answer.\n "
    assert str(chosen.mteb_model_meta.experiment_name).startswith("instruction_Retrieve the answer. ")
    assert "\n" not in str(chosen.mteb_model_meta.experiment_name)
    places = {
        RadarEncoder(tiny_qwen2, instruction=text).mteb_model_meta.experiment_name
        for text in ("a\nQuery: ", "a Query: ", "a_Query_ ", "")
    }
    assert len(places) == 4


def test_settings_that_change_scores_keep_results_apart_and_the_devices_default_does_not(tiny_qwen2: Path) -> None:
    def place(**settings: Any) -> str | None:
        return RadarSearch(tiny_qwen2, device="cpu", **settings).mteb_model_meta.experiment_name

    assert place() is None
    assert place(dtype="float32", store_dtype="float32") is None
    assert place(dtype="bfloat16") == "dtype_bfloat16"
    assert place(store_dtype="float16") == "store_dtype_float16"
    with pytest.raises(ValueError, match="store_dtype must be float32 or float16, not 'int8'"):
        place(store_dtype="int8")
    forms = [TextTemplate("mine", query_prefix=text, document_prefix="", ends_with_eos=True) for text in "ab"]
    assert len({place(template=form) for form in forms}) == 2


def test_a_model_of_another_form_has_no_instruction() -> None:
    assert RadarEncoder("all-MiniLM-L6-v2").instruction_of("BrightPonyRetrieval") == ""


def test_a_folders_revision_is_a_digest_of_its_weights(tiny_qwen2: Path) -> None:
    meta = RadarEncoder(tiny_qwen2).mteb_model_meta
    assert meta.name == f"local/{tiny_qwen2.name}"
    assert str(meta.revision).startswith("weights-")
    assert meta.experiment_kwargs is None


def test_a_copy_that_keeps_its_released_name_has_the_released_metadata(tiny_qwen2: Path, tmp_path: Path) -> None:
    name = "RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes"
    folder = tmp_path / name
    folder.mkdir()
    for path in tiny_qwen2.iterdir():
        if path.name != "radar.json":
            (folder / path.name).symlink_to(path)
    meta = RadarEncoder(folder, max_query_tokens=512, max_document_tokens=512).mteb_model_meta
    assert meta.name == f"Raderspace/{name}"
    assert str(meta.revision).startswith("weights-")  # not a commit: nobody knows which one was copied
    told = RadarEncoder(folder, revision="0" * 40, dtype="bfloat16").mteb_model_meta
    assert told.revision == "0" * 40
    assert told.experiment_kwargs == {"dtype": "bfloat16"}
    assert METAS[f"Raderspace/{name}"].revision is None  # the table is not changed


def test_the_commit_is_read_from_the_hubs_cache(tiny_qwen2: Path, tmp_path: Path, monkeypatch) -> None:
    commit = "1" * 40
    snapshot = tmp_path / "models--Raderspace--x" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_qwen2)
    for module in ("mteb_radar.facts", "torch_radar.loading"):
        monkeypatch.setattr(f"{module}.weights_folder", lambda name, revision=None: snapshot)
    for revision in (None, "main"):
        meta = RadarEncoder("Raderspace/RaDeR_Qwen25-14B_NuminaMath_MATH_allquerytypes", revision).mteb_model_meta
        assert meta.revision == commit


def test_load_model_chooses_by_kind(tiny_qwen2: Path, tiny_qwen2_reranker: Path) -> None:
    assert type(load_model(tiny_qwen2)) is RadarSearch
    assert type(load_model(tiny_qwen2_reranker)) is RadarReranker
    with pytest.raises(ValueError, match="is a retriever, and a reranker is needed"):
        RadarReranker(tiny_qwen2)
    with pytest.raises(ValueError, match="is a reranker, and a retriever is needed"):
        RadarSearch(tiny_qwen2_reranker)


def test_the_reranker_gives_the_cores_scores(tiny_qwen2_reranker: Path) -> None:
    scores = RadarReranker(tiny_qwen2_reranker).predict(
        loader(["q"] * 3), loader(TEXTS), task_metadata=METADATA.model_copy(update={"type": "Reranking"}), **WHERE
    )
    np.testing.assert_array_equal(scores, Reranker(tiny_qwen2_reranker).score([("q", text) for text in TEXTS]))


def test_a_cross_encoder_that_meets_a_retrieval_task_stops_before_it_scores(
    tiny_qwen2_reranker: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = RadarReranker(tiny_qwen2_reranker), local_task(bright_folder, long=True)
    monkeypatch.setattr(model.reranker, "score", lambda pairs: np.ones(len(list(pairs)), dtype=np.float32))
    with pytest.raises(ValueError, match=r"LocalTheoremsLong is a retrieval task.*radar mteb rerank"):
        mteb.evaluate(model, task, cache=None, co2_tracker=False)
    (tmp_path / "run.trec").write_text("".join(f"q{i} Q0 L{i} 1 4 x\n" for i in range(8)))
    prepared = as_reranking(task, Rankings(tmp_path / "run.trec"), top_k=2)
    assert mteb.evaluate(model, prepared, cache=None, co2_tracker=False).task_results
