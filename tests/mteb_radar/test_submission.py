"""What the results repository would refuse is refused here, by name; what it would take is written whole."""

from __future__ import annotations

import json
from pathlib import Path

import mteb
import pytest

from mteb_radar import submission
from mteb_radar.results import read_results
from mteb_radar.submission import prepare, problems

NAME = "Raderspace/RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical"
COMMIT = "f3f15af7632da5d5e52f6089debf12c54160b147"
TASK, SPLIT = "ARCChallenge", "test"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete result of a hub model on ARC-Challenge, as mteb writes it."""
    folder = tmp_path / "results" / NAME.replace("/", "__") / COMMIT
    folder.mkdir(parents=True)
    _write(folder / "model_meta.json", {"name": NAME, "revision": COMMIT, "loader_kwargs": {"folder": "/home/me"}})
    score = {"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"], "mteb_version": "2.26.24"}
    _write(
        folder / f"{TASK}.json",
        {
            "dataset_revision": mteb.get_task(TASK).metadata.revision,
            "task_name": TASK,
            "mteb_version": "2.26.24",
            "scores": {SPLIT: [score]},
            "evaluation_time": 1.0,
            "kg_co2_emissions": None,
        },
    )
    settings = {"task": TASK, "splits": [SPLIT], "subsets": ["default"], "version": {"mteb": "2.26.24"}}
    (folder / "run_settings.jsonl").write_text(json.dumps(settings) + "\n")
    return folder


def _write(path: Path, record: dict) -> None:
    path.write_text(json.dumps(record))


def _change(path: Path, **fields: object) -> None:
    _write(path, json.loads(path.read_text()) | fields)


def _problems(folder: Path) -> str:
    (results,) = read_results(folder)
    return "\n".join(problems(results))


def test_a_good_tree_is_written_whole_without_what_holds_on_one_machine(folder: Path, tmp_path: Path) -> None:
    (results,) = read_results(tmp_path)
    made = prepare(results, tmp_path / "out")
    assert made.folder == tmp_path / "out" / "results" / NAME.replace("/", "__") / COMMIT
    assert made.files == (f"{TASK}.json", "model_meta.json", "run_settings.jsonl")
    assert "/home/me" not in (made.folder / "model_meta.json").read_text()
    assert any("release_date" in step for step in made.left_to_do)
    with pytest.raises(ValueError, match="is there already"):
        prepare(results, tmp_path / "out")


def test_tasks_that_mteb_lacks_are_left_out_and_listed(folder: Path, tmp_path: Path) -> None:
    rewritten = "BrightPonyRetrieval.gpt4_reason"
    result = json.loads((folder / f"{TASK}.json").read_text())
    _write(folder / f"{rewritten}.json", result | {"task_name": rewritten})
    with (folder / "run_settings.jsonl").open("a") as file:
        file.write(json.dumps({"task": rewritten, "splits": [SPLIT], "subsets": ["default"]}) + "\n")
    made = prepare(read_results(folder)[0], tmp_path / "out")
    assert made.left_out == (rewritten,)
    assert made.files == (f"{TASK}.json", "model_meta.json", "run_settings.jsonl")
    assert rewritten not in (made.folder / "run_settings.jsonl").read_text()


def test_what_a_checkpoint_is_loaded_with_stays_in_its_metadata(folder: Path, tmp_path: Path) -> None:
    name = "Raderspace/lora_RaDeR_gte_Qwen2-7B_MATH_LLMq_CoT_lexical"
    target = folder.parent.with_name(name.replace("/", "__")) / COMMIT
    target.parent.mkdir()
    folder.rename(target)
    _change(target / "model_meta.json", name=name, loader_kwargs={"base": "a/base", "folder": "/home/me"})
    made = prepare(read_results(target)[0], tmp_path / "out")
    assert json.loads((made.folder / "model_meta.json").read_text())["loader_kwargs"] == {"base": "a/base"}


@pytest.mark.parametrize("place", ["experiments", "experiments/2026"])
def test_an_experiment_is_told_by_the_folder_above_it_alone(folder: Path, tmp_path: Path, place: str) -> None:
    moved = tmp_path / place / "results"
    moved.parent.mkdir(parents=True)
    (tmp_path / "results").rename(moved)
    (results,) = read_results(moved)
    assert (results.name, results.is_experiment) == (NAME, False)
    assert problems(results) == []
    own = results.folder / "experiments" / "dtype_float32"
    own.mkdir(parents=True)
    for path in results.folder.glob("*.json*"):
        path.rename(own / path.name)
    (results,) = read_results(moved)
    assert (results.name, results.is_experiment) == (f"{NAME} (dtype_float32)", True)
    assert "ran with settings of its own" in problems(results)[0]


def test_every_rule_of_the_repository_is_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _problems(folder) == ""
    result = folder / f"{TASK}.json"
    good = result.read_text()

    _change(result, mteb_version="1.38.0")
    assert "was made by mteb 1.38.0" in _problems(folder)
    result.write_text(good)

    _change(result, dataset_revision="old")
    assert "was run on revision old of its data" in _problems(folder)
    result.write_text(good)

    _change(result, task_name="MyOwnTask")
    assert "mteb has none of these tasks: MyOwnTask" in _problems(folder)
    result.write_text(good)

    (folder / "run_settings.jsonl").write_text("")
    assert "does not cover ARCChallenge (test/default)" in _problems(folder)

    monkeypatch.setattr(submission, "LARGEST_BYTES", 10)
    assert "and 10 are allowed" in _problems(folder)


def test_a_revision_that_is_no_commit_and_an_unknown_model_are_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "other" / "local__mine" / "weights-12"
    target.parent.mkdir(parents=True)
    folder.rename(target)
    _change(target / "model_meta.json", name="local/mine", revision="weights-12")
    found = _problems(target)
    assert "is no commit" in found
    assert "local/mine is neither in mteb's registry" in found
    with pytest.raises(ValueError, match="would be refused"):
        prepare(read_results(target)[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_half_written_results_are_named(folder: Path) -> None:
    (folder / f"{TASK}.json").write_text('{"dataset_revi')
    with pytest.raises(ValueError, match=rf"{TASK}.json is no result of mteb"):
        read_results(folder)
