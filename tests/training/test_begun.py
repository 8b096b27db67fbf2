"""A run goes on with the recipe and the contents it was begun with, and with no others."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.training.runs import evaluation, write_data, write_recipe, write_teacher
from training.data import DataError
from training.run import train


def test_a_run_begun_before_a_key_was_known_has_its_default(base, data, tmp_path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=1)
    output = train(recipe, tmp_path / "out")
    kept = output / "recipe.yaml"
    kept.write_text(kept.read_text().replace("teacher: null\n", ""))
    assert "teacher" not in kept.read_text()
    train(recipe, output)


def test_a_finished_run_is_left_alone_and_another_recipe_is_refused(base, data, tmp_path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=1)
    output = train(recipe, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in output.iterdir() if path.is_file()}
    train(recipe, output)
    assert before == {path: path.stat().st_mtime_ns for path in output.iterdir() if path.is_file()}
    other = write_recipe(tmp_path / "r.yaml", base, "retriever", data, max_steps=2)
    with pytest.raises(DataError, match="another recipe"):
        train(other, output)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("changed", ["examples.jsonl", "documents.jsonl", "qrels", "base", "teacher", "form"])
def test_a_run_on_other_data_under_the_same_names_is_refused(base, tmp_path, finished, changed) -> None:
    folder = tmp_path / "data"
    write_data(folder)
    weights_of_base = shutil.copytree(base, tmp_path / "base")
    source = {"path": str(folder / "examples.jsonl"), "documents": [str(folder / "documents.jsonl")]}
    teacher = write_teacher(base, folder, tmp_path / "teacher")
    settings = {"data": [source], "evaluation": evaluation(folder, candidates=str(folder / "run")), "max_steps": 2}
    settings["teacher"] = {"name": str(teacher)}
    recipe = write_recipe(tmp_path / "r.yaml", weights_of_base, "reranker", folder, **settings)
    output = train(recipe, tmp_path / "out")
    if not finished:
        (output / "radar.json").unlink()
    models = {
        "base": (weights_of_base, weights_of_base / "config.json"),
        "teacher": (teacher, teacher / "adapter_config.json"),
        "form": (teacher / "radar.json", teacher / "radar.json"),
    }
    named, file = models.get(changed, (folder / changed, folder / changed))
    written = file.read_text(encoding="utf-8")
    file.write_text(written.replace("\n", " \n", 1), encoding="utf-8")
    with pytest.raises(DataError, match=f"other contents of {re.escape(str(named))}: give another folder"):
        train(recipe, output)
    file.write_text(written, encoding="utf-8")
    train(recipe, output)
    if changed not in models:
        file.unlink()
        train(recipe, output)  # what is finished needs its data no more


def test_what_stopped_a_run_before_its_first_step_may_be_mended(base, tmp_path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", tmp_path, max_steps=1)
    with pytest.raises(FileNotFoundError, match="examples.jsonl"):
        train(recipe, tmp_path / "out")
    (tmp_path / "examples.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"examples\.jsonl:1"):
        train(recipe, tmp_path / "out")
    write_data(tmp_path)
    output = train(recipe, tmp_path / "out")
    (output / "data.json").unlink()  # as an older run, of whose data nothing is known
    write_data(tmp_path, examples=20)
    assert train(recipe, output) == output and not (output / "data.json").exists()
