"""A recipe says what it means, is checked before anything is loaded, and survives being written."""

import os
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_radar.templates import PAIR_TEMPLATES, TEXT_TEMPLATES
from training.recipe import BaseModel, DataSource, Evaluation, Lora, Recipe, RecipeError, Teacher, shipped_recipes

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

MINIMAL = """\
kind: retriever
base:
  name: Qwen/Qwen2.5-7B-Instruct
  template: query-document
  pooling: last_token
data:
  - path: examples.jsonl
"""
RERANKER = MINIMAL.replace("retriever", "reranker").replace("query-document", "recovered")


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(MINIMAL)
    return path


def load(text: str, folder: Path, *overrides: str) -> Recipe:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(path, overrides)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_by_name(name: str) -> None:
    if name == "laptop-reranker" and "separated" not in PAIR_TEMPLATES:
        pytest.skip("torch_radar has no template 'separated' yet")
    recipe = Recipe.load(name)
    assert recipe.kind == ("reranker" if "reranker" in name else "retriever")
    assert recipe.data[0].path.startswith(str(Path.cwd() / "data"))


def test_the_recipes_the_documentation_names_are_those_that_ship() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert {name for name in shipped_recipes() if f"| `{name}` |" in page} == set(shipped_recipes())
    assert len(shipped_recipes()) == 11


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("paper")])
def test_the_recipes_of_the_paper_have_its_values(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.lora == Lora(rank=16, alpha=64, dropout=0.1)
    assert (recipe.batch_queries, recipe.group_size, recipe.epochs) == (64, 12, 1.0)
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup_steps) == (1e-4, "linear", 28)
    assert recipe.temperature == 0.01
    assert "TheoremQA" in recipe.contamination


def test_what_is_left_out_has_its_default(recipe_file: Path) -> None:
    recipe = Recipe.load(recipe_file)
    assert recipe == Recipe(
        kind="retriever",
        base=BaseModel("Qwen/Qwen2.5-7B-Instruct", "query-document", "last_token"),
        data=(DataSource(str(recipe_file.parent / "examples.jsonl")),),
    )
    assert recipe.lora == Lora()
    assert recipe.evaluation is None
    assert recipe.template is TEXT_TEMPLATES["query-document"]


def test_relative_paths_start_at_the_file_and_those_of_overrides_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    text = (
        MINIMAL.replace("Qwen/Qwen2.5-7B-Instruct", "../base")
        + "    documents: [../a.jsonl, /b.jsonl]\n"
        + "evaluation: {documents: [d.jsonl], queries: q.jsonl, qrels: q.txt, candidates: ~/run.txt}\n"
    )
    overrides = ["data.0.documents.1=c.jsonl", "evaluation.qrels=r.txt"]
    recipe = load(text, tmp_path, *overrides)
    assert recipe.base.name == str(tmp_path.parent / "base")
    assert recipe.data[0].path == str(tmp_path / "examples.jsonl")
    assert recipe.data[0].documents == (str(tmp_path.parent / "a.jsonl"), str(tmp_path / "work" / "c.jsonl"))
    assert recipe.evaluation == Evaluation(
        documents=(str(tmp_path / "d.jsonl"),),
        queries=str(tmp_path / "q.jsonl"),
        qrels=str(tmp_path / "work" / "r.txt"),
        candidates=os.path.expanduser("~/run.txt"),
    )


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("lora.rank=8", lambda r: r.lora.rank == 8),
        ("lora.targets=[query, value]", lambda r: r.lora.targets == ("query", "value")),
        ("lora.targets.0=query", lambda r: r.lora.targets[:2] == ("query", "v")),
        ("lora=null", lambda r: r.lora is None),
        ("data.0.weight=2", lambda r: r.data[0].weight == 2.0),
        ("data.0.query_types.cot=0.5", lambda r: r.data[0].query_types == {"cot": 0.5}),
        ("learning_rate=2e-5", lambda r: r.learning_rate == 2e-5),
        ("epochs=3", lambda r: isinstance(r.epochs, float) and r.epochs == 3),
        ("contamination=a=b", lambda r: r.contamination == "a=b"),
        ("base.revision='0123'", lambda r: r.base.revision == "0123"),
    ],
)
def test_an_override_changes_what_it_names(tmp_path: Path, override: str, value) -> None:  # noqa: ANN001
    assert value(load(MINIMAL + "lora: {targets: [k, v]}\n", tmp_path, override))


def test_the_last_override_wins_and_makes_what_was_null(tmp_path: Path) -> None:
    recipe = load(MINIMAL + "lora: null\n", tmp_path, "lora.rank=8", "lora.rank=4")
    assert recipe.lora == Lora(rank=4)


def test_an_override_of_one_source_leaves_another_that_shares_its_list(tmp_path: Path) -> None:
    text = MINIMAL + "    documents: &shared [a.jsonl]\n  - {path: more.jsonl, documents: *shared}\n"
    recipe = load(text, tmp_path, "data.0.documents.0=/b.jsonl")
    assert [source.documents for source in recipe.data] == [("/b.jsonl",), (str(tmp_path / "a.jsonl"),)]


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("lora: {rnk: 8}", 8, "lora.rnk", "did you mean rank?"),
        ("lerning_rate: 1", 8, "lerning_rate", "did you mean learning_rate?"),
        ("rank: 8", 8, "rank", "did you mean lora.rank?"),
        ("optimiser: adam", 8, "optimiser", "known: kind, base"),
        ("    wieght: 2", 8, "data.0.wieght", "did you mean weight?"),
        ("    format: tevatorn", 8, "data.0.format", "radar or tevatron"),
        ("    query_types: {cot: -1}", 8, "data.0.query_types.cot", "at least 0"),
        ("    query_types: {no: 1}", 8, "data.0.query_types.False", "put it in quotes"),
        ("    documents: a.jsonl", 8, "data.0.documents", "must be a list"),
        ("    documents: [a.jsonl, 3]", 8, "data.0.documents.1", "must be text, not 3; put it in quotes"),
        ("  - {weight: 1}", 8, "data.1.path", "is missing"),
        ("  - path: ''", 8, "data.1.path", "must not be empty"),
        ("seed: -1", 8, "seed", "at least 0 and at most 4294967295"),
        ("epochs: .nan", 8, "epochs", "above 0"),
        ("epochs: .inf", 8, "epochs", "above 0"),
        ("temperature: 0", 8, "temperature", "above 0"),
        ("caching: 1", 8, "caching", "must be true or false, not 1"),
        ("group_size: true", 8, "group_size", "must be a whole number, not true"),
        ("group_size: 1.5", 8, "group_size", "must be a whole number"),
        ("max_steps: 1e3", 8, "max_steps", "must be a whole number"),
        ("learning_rate: fast", 8, "learning_rate", "must be a number, not 'fast'"),
        ("weight_decay: null", 8, "weight_decay", "must be a number, not null"),
        ("lora: [8]", 8, "lora", "must be a mapping"),
        ("lora: {targets: []}", 8, "lora.targets", "must not be empty"),
        ("lora: {dropout: 1}", 8, "lora.dropout", "at least 0 and below 1"),
        ("evaluation: {queries: q, qrels: r}", 8, "evaluation.documents", "is missing"),
        ("seed: 1\nseed: 2", 9, "seed", "given twice"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, text: str, line: int, key: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(MINIMAL + text, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'my.yaml'}, line {line}: {key}: ")
    assert problem in str(caught.value)
    assert caught.value.key == key


@pytest.mark.parametrize("key", ["kind", "base", "base.name", "base.template", "base.pooling", "data"])
def test_what_has_no_default_must_be_given(tmp_path: Path, key: str) -> None:
    values = yaml.safe_load(MINIMAL)
    parent, _, last = key.rpartition(".")
    del (values[parent] if parent else values)[last]
    with pytest.raises(RecipeError, match=f"my.yaml.*: {key}: is missing"):
        load(yaml.safe_dump(values), tmp_path)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("lora.rnk=8", "--set lora.rnk=8: lora.rnk: unknown key; did you mean rank?"),
        ("lora={rank: x}", "--set lora={rank: x}: lora.rank: must be a whole number"),
        ("data.1.weight=2", "--set data.1.weight=2: data: has 1 items, and '1' is none of them"),
        ("data.first.weight=2", "'first' is none of them"),
        ("kind.name=x", "kind: is 'retriever', with no keys below it"),
        ("lora.rank", "must be key=value"),
        ("=8", "must be key=value"),
        ("lora.rank=[8", "lora.rank: value not readable as YAML"),
        ("data=&a [*a]", "data: value not readable as YAML"),
    ],
)
def test_an_error_in_an_override_names_the_override(recipe_file: Path, override: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(recipe_file, [override])
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"--set {override}: ")


@pytest.mark.parametrize(
    ("text", "override", "key", "problem"),
    [
        (MINIMAL, "base.template=recovered", "base.template", "not of a retriever; known: query-document"),
        (RERANKER, "base.template=query-document", "base.template", "not of a reranker; known: recovered"),
        (MINIMAL, "base.template=query-documents", "base.template", "did you mean query-document?"),
        (MINIMAL, "base.template=plain", "base.pooling", "those that do: query-document, query-passage"),
        (MINIMAL, "{lora}", "base.dtype", "use float32"),
        (RERANKER, "group_size=1", "group_size", "at least 2 for a reranker"),
        (RERANKER, "teacher={name: x, weight: 0}", "teacher.weight", "must be at most 1 and above 0"),
        (MINIMAL, "teacher={name: x}", "teacher", "is for rerankers"),
        (MINIMAL, "{alone}", "group_size", "no negatives at all"),
        (MINIMAL, "data.0.weight=0", "data", "nothing would be trained on"),
        (RERANKER, "evaluation={documents: [d], queries: q, qrels: r}", "evaluation.candidates", "name one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, text: str, override: str, key: str, problem: str
) -> None:
    several = {"{lora}": ["lora=null", "base.dtype=bfloat16"], "{alone}": ["group_size=1", "in_batch_negatives=false"]}
    with pytest.raises(RecipeError) as caught:
        load(text, tmp_path, *several.get(override, [override]))
    assert caught.value.key == key
    assert problem in str(caught.value)


def test_in_batch_negatives_are_enough_for_a_retriever(tmp_path: Path) -> None:
    assert load(MINIMAL, tmp_path, "group_size=1").group_size == 1


def test_a_recipe_made_or_changed_in_python_is_checked_as_well(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match="^warmup_steps: must be at least 0, not -1$"):
        replace(Recipe.load(recipe_file), warmup_steps=-1)


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: [\n", "a: &x [*x]\n", "a: !!python/object:os.system {}\n", "[" * 5000]
)
def test_what_is_no_mapping_in_yaml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"my\.yaml: "):
        load(text, tmp_path)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="paper-7c is neither a file nor a shipped recipe; did you mean paper-7b?"):
        Recipe.load("paper-7c")


names = st.from_regex(r"[A-Za-z0-9][\w./ #:-]{0,12}", fullmatch=True)
paths = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).map("/".__add__)
counts = st.integers(1, 10**12)
positives = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
weights = st.floats(min_value=0, allow_infinity=False)
precisions = st.sampled_from(["float32", "bfloat16"])
free_text = st.text(st.characters(codec="utf-8"))

bases = st.builds(
    BaseModel,
    name=names,
    template=st.just("query-document"),
    pooling=st.sampled_from(["last_token", "mean", "cls"]),
    revision=st.none() | names,
    licence=free_text,
    dtype=st.just("float32"),
)
loras = st.builds(Lora, rank=counts, alpha=counts, dropout=st.floats(0, 0.99), targets=st.lists(names, min_size=1))
sources = st.builds(
    DataSource,
    path=paths,
    documents=st.lists(paths, max_size=3),
    format=st.sampled_from(["radar", "tevatron"]),
    weight=positives,
    query_types=st.dictionaries(free_text.filter(bool), weights, max_size=3),
)
evaluations = st.builds(
    Evaluation,
    documents=st.lists(paths, min_size=1, max_size=3),
    queries=paths,
    qrels=paths,
    candidates=st.none() | paths,
    patience=st.none() | counts,
)
recipes = st.builds(
    Recipe,
    kind=st.just("retriever"),
    base=bases,
    data=st.lists(sources, min_size=1, max_size=3),
    lora=st.none() | loras,
    evaluation=st.none() | evaluations,
    seed=st.integers(0, 2**32 - 1),
    epochs=positives,
    max_steps=st.none() | counts,
    learning_rate=positives,
    weight_decay=weights,
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    precision=precisions,
    caching=st.booleans(),
    contamination=free_text,
)


@settings(deadline=None)
@given(recipes)
def test_a_recipe_that_is_written_and_read_is_equal(recipe: Recipe) -> None:
    with TemporaryDirectory() as folder:
        assert load(recipe.to_yaml(), Path(folder)) == recipe


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), st.lists))
def test_any_value_of_any_key_is_taken_or_refused_by_name(value: object) -> None:
    base = yaml.safe_load(MINIMAL)
    for field in fields(Recipe):
        try:
            Recipe(**(base | {field.name: value}))
        except RecipeError as error:
            assert error.key


def documented_keys() -> Iterator[tuple[str, str]]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[1].startswith("`"):
            yield cells[1].strip("`"), cells[3].strip("`")


def test_every_key_is_documented_with_its_default() -> None:
    documented = dict(documented_keys())
    expected = {}
    sections = {
        "base.": BaseModel,
        "lora.": Lora,
        "teacher.": Teacher,
        "data.0.": DataSource,
        "evaluation.": Evaluation,
    }
    for prefix, cls in {"": Recipe, **sections}.items():
        for field in fields(cls):
            default = field.default if field.default is not MISSING else field.default_factory
            expected[prefix + field.name] = "—" if default is MISSING else default
    expected |= {"lora": {}, "data.0.query_types": {}}
    assert set(documented) == set(expected)
    for key, default in expected.items():
        said = documented[key] if default == "—" else yaml.safe_load(documented[key])
        assert said == (list(default) if isinstance(default, tuple) else default), key
