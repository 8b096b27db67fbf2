"""Settings: the paper's as defaults, checked when they are read, and a digest of what decides a record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synthesis.settings import RetrieverSettings, Settings, SettingsError, differences


def test_the_shipped_file_holds_the_defaults_and_every_one_of_them(tmp_path: Path):
    import yaml

    assert Settings.load() == Settings.load("paper") == Settings()
    shipped = yaml.safe_load((Path(__file__).parents[2] / "synthesis" / "paper.yaml").read_text())
    Settings().save(tmp_path / "saved.yaml")
    assert shipped == yaml.safe_load((tmp_path / "saved.yaml").read_text())


def test_the_papers_values_are_those_of_the_specification():
    settings = Settings()
    tree, thought = settings.tree, settings.actions.thought
    assert (tree.rollouts, tree.max_depth, tree.exploration, tree.thoughts) == (16, 6, 2.0, 2)
    assert (tree.max_theorems, tree.query_limit) == (5, 3)
    assert (thought.temperature, thought.top_p, thought.top_k) == (0.8, 0.95, 40)
    assert settings.actions.completion.samples == 4
    assert settings.generator.model == "Qwen/Qwen2.5-7B-Instruct"


def test_a_file_changes_only_what_it_names(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("tree: {rollouts: 8}\nactions: {thought: {temperature: 1}}\nproblems: some/problems.jsonl\n")
    settings = Settings.load(path, ["tree.max_depth=4", "generator.urls=[http://a, http://b]"])
    assert (settings.tree.rollouts, settings.tree.max_depth, settings.tree.thoughts) == (8, 4, 2)
    assert settings.actions.thought == replace(Settings().actions.thought, temperature=1.0)
    assert settings.generator.urls == ("http://a", "http://b")
    assert settings.problems == str(tmp_path / "some" / "problems.jsonl")


def test_files_set_over_the_settings_are_where_they_were_named_wherever_the_settings_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(overrides=["corpus=theorems.jsonl", "problems=some/problems.jsonl"])
    assert settings.corpus == str(tmp_path / "theorems.jsonl")
    settings.save(tmp_path / "run" / "settings.yaml")
    again = Settings.load(tmp_path / "run" / "settings.yaml")
    assert (again.corpus, again.problems) == (settings.corpus, str(tmp_path / "some" / "problems.jsonl"))


def test_what_is_saved_is_loaded_again(tmp_path: Path):
    settings = Settings.load(overrides=["tree.max_queries=1", "budget.seconds=2.5", "samples.types=[cot]"])
    settings.save(tmp_path / "settings.yaml")
    assert Settings.load(tmp_path / "settings.yaml") == settings


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tree.rollots=3", "tree.rollots: unknown key; did you mean tree.rollouts?"),
        ("tree.rollouts=0", "it must be 1 or more"),
        ("tree.rollouts='3'", "tree.rollouts: Input should be a valid integer"),
        ("tree.rollouts=true", "tree.rollouts: Input should be a valid integer"),
        ("tree=3", "tree: Input should be an object"),
        ("samples.types=[essay]", "samples.types must be some of"),
        ("retriever.kind=google", "retriever.kind: Input should be 'bm25', 'encoder' or 'endpoint'"),
        ("retriever.kind=endpoint", "set retriever.model"),
        ("consensus.share=0", "above 0 up to 1"),
        ("concurrency=0", "concurrency is 0"),
        ("budget.calls=many", "budget.calls: Input should be a valid integer"),
        ("actions.completion.samples=0", "actions.completion: samples is 0"),
        ("actions.thought.samples=2", "actions.thought.samples: unknown key"),
        ("actions.thought.temperature=-1", "actions.thought: temperature is -1"),
        ("actions.thought.temperature=.nan", "temperature is nan"),
        ("actions.thought.top_p=0", "actions.thought: top_p is 0"),
        ("actions.thought.top_k=-1", "actions.thought: top_k is -1"),
        ("actions.completion.max_tokens=0", "actions.completion: max_tokens is 0"),
        ("actions.reflection.choice=['Yes', 'No']", "actions.reflection.choice: unknown key"),
        ("actions.reflection.logprobs=0", "actions.reflection.logprobs: unknown key"),
        ("verifier.workers=0", "verifier: workers is 0"),
        ("verifier.deadline=0", "verifier: deadline is 0"),
        ("budget.calls=-5", "budget: calls is -5"),
        ("budget.seconds=0", "budget: seconds is 0"),
        ("tree.rollouts", "must be key=value"),
        ("tree.rollouts=[", "not readable as YAML"),
    ],
)
def test_a_mistake_is_named_before_any_work(override: str, said: str):
    with pytest.raises(SettingsError) as caught:
        Settings.load(overrides=[override])
    assert said in str(caught.value)


def test_the_choices_of_a_prompt_are_of_its_action_and_of_no_file(tmp_path: Path):
    Settings().save(tmp_path / "saved.yaml")
    assert not any(name in (tmp_path / "saved.yaml").read_text() for name in ("choice", "logprobs"))
    sampling = Settings.load(tmp_path / "saved.yaml", ["actions.reflection.max_tokens=5"]).actions.reflection
    assert (sampling.choice, sampling.logprobs, sampling.max_tokens) == (("True", "False"), 5, 5)


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path):
    for text in ("- a\n", "a: [\n"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(SettingsError, match="bad.yaml: "):
            Settings.load(tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "tree.rollouts=8", "actions.thought.temperature=0.7", "reasons=true", "generator.model=other",
     "retriever.kind=encoder", "consensus.samples=4", "verifier.judge=true", "verifier.deadline=1.0"],
)  # fmt: skip
def test_what_changes_a_record_changes_the_digest(override: str):
    assert Settings.load(overrides=[override]).digest("corpus") != Settings().digest("corpus")


@pytest.mark.parametrize(
    "override",
    ["generator.urls=[http://elsewhere]", "generator.in_flight=1", "concurrency=3", "samples_ahead=4", "problems=p",
     "budget.calls=5", "verifier.workers=8", "samples.negatives=3", "longest_first=true", "retriever.url=http://x",
     "retriever.model=a-miner"],
)  # fmt: skip
def test_what_changes_no_record_changes_no_digest(override: str):
    assert Settings.load(overrides=[override]).digest("corpus") == Settings().digest("corpus")


def test_another_corpus_and_other_prompts_change_the_digest(monkeypatch: pytest.MonkeyPatch):
    before = Settings().digest("corpus")
    assert Settings().digest("another") != before
    assert set(Settings().identity()["prompts"]) == {
        "thought", "completion", "candidates", "reflection", "reflection_reason", "summary", "same_answer",
    }  # fmt: skip
    changed = Settings().identity() | {"prompts": {"thought": "0" * 16}}
    monkeypatch.setattr(Settings, "identity", lambda self: changed)
    assert Settings().digest("corpus") != before


def test_the_model_of_an_encoder_is_part_of_what_a_record_depends_on():
    one, other = (Settings(retriever=RetrieverSettings(kind="encoder", model=name)) for name in ("a", "b"))
    assert one.digest("corpus") != other.digest("corpus")
    assert list(differences(one.identity(), other.identity())) == ["retriever.model was 'a' and is 'b'"]
