"""A retriever that a reranker learns from: how much, which, and that it is no other than the recipe's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.runs import curve, write_data, write_recipe, write_teacher
from torch_radar.checkpoints import CheckpointError
from torch_radar.vectors import VectorStore
from training.run import train


def test_a_reranker_learns_from_a_teacher_as_much_as_the_recipe_says(base, data, tmp_path) -> None:
    teacher = {"name": str(write_teacher(base, data, tmp_path / "teacher"))}
    losses = {}
    for weight, temperature in ((None, 1.0), (1e-6, 0.05), (1.0, 0.05), (1.0, 1000.0)):
        settings = {"teacher": teacher | {"weight": weight, "temperature": temperature}} if weight else {}
        recipe = write_recipe(tmp_path / "r.yaml", base, "reranker", data, max_steps=1, **settings)
        losses[weight, temperature] = curve(train(recipe, tmp_path / f"{weight}-{temperature}"))[0][1]
    label = losses[None, 1.0]
    assert losses[1e-6, 0.05] == pytest.approx(label, rel=1e-4)
    assert len({round(loss, 4) for loss in (label, losses[1.0, 0.05], losses[1.0, 1000.0])}) == 3


def test_what_the_teacher_encoded_is_made_anew_where_it_is_another_before_the_first_step(base, tmp_path) -> None:
    data = tmp_path / "data"
    write_data(data)
    teacher = write_teacher(base, data, tmp_path / "teacher")
    settings = {"teacher": {"name": str(teacher)}, "batch_queries": 4, "epochs": 1, "max_steps": 1}
    recipe = write_recipe(tmp_path / "r.yaml", base, "reranker", data, **settings)
    with pytest.raises(ValueError, match="no such linear module"):
        train(replace(recipe, lora=replace(recipe.lora, targets=("nothing",))), tmp_path / "out")
    (tmp_path / "out" / "recipe.yaml").unlink()
    write_data(data, examples=20)
    output = train(recipe, tmp_path / "out")
    assert len(VectorStore.open(output / "cache" / "teacher")) == 20


def test_only_a_retriever_can_teach(base, data, tmp_path) -> None:
    reranker = train(write_recipe(tmp_path / "r.yaml", base, "reranker", data, max_steps=1), tmp_path / "reranker")
    recipe = write_recipe(tmp_path / "s.yaml", base, "reranker", data, teacher={"name": str(reranker)})
    with pytest.raises(CheckpointError, match="is a reranker, and a retriever is needed"):
        train(recipe, tmp_path / "out")
