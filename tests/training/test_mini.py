"""The data of radar-mini: what is held out stays out, and what is evaluated on is not trained on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from torch_radar.checkpoints import MINILM
from torch_radar.encoder import Encoder
from torch_radar.loading import load_tokenizer, weights_folder
from training.data import Documents, read_examples
from training.latex import reading_latex
from training.mini.__main__ import make, name_sources, train_plain_rows
from training.mini.data import BODY, KINDS, beginning, build, held_out, read_dev, read_evaluation_texts
from training.mini.measure import HeldOut, held_out_sets
from training.mini.plain import train_plain
from training.recipe import Recipe
from training.run import train

PROBLEMS = [
    json.loads(line) for line in files("training.mini").joinpath("problems.jsonl").read_text("utf-8").splitlines()
]


def write(path: Path, records: list[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    """Two corpora in the form of the originals: every PlanetMath docno that has a problem, and a few statements."""
    stacks, planetmath = tmp_path / "stacks", tmp_path / "planetmath"
    statements = [{"docno": f"algebra-lemma-{i}", "text": f"Every module number {i} is flat."} for i in range(6)]
    write(stacks / "corpus.jsonl.gz", [*statements, {"docno": "empty", "text": " "}])
    write(
        stacks / "train.jsonl.gz",
        [{"qid": "algebra-lemma-0", "query": "is it flat", "positives": ["algebra-lemma-0", "algebra-lemma-1", "x"]}],
    )
    write(
        stacks / "dev.jsonl.gz", [{"qid": "algebra-lemma-2", "query": "flat? " * 300, "positives": ["algebra-lemma-3"]}]
    )
    docnos = sorted({p["docno"] for p in PROBLEMS})
    rare = ["".join(letters) for letters in product("bdgk", "aeiou", "lmnr", "st")]
    write(
        planetmath / "corpus.jsonl.gz",
        [
            {"docno": d, "title": f"title of {d}", "text": f"the statement of {d}: {' '.join(rare[i % 150 :][:5])}"}
            for i, d in enumerate(docnos)
        ],
    )
    return stacks, planetmath


def test_nothing_that_is_held_out_is_trained_on(sources: tuple[Path, Path], tmp_path: Path) -> None:
    build(*sources, tmp_path / "data")
    documents = Documents.from_files([tmp_path / "data" / "documents.jsonl"], tmp_path)
    sets = {k: read_examples(tmp_path / "data" / f"examples-{k}.jsonl", documents, cache=tmp_path) for k in KINDS}
    assert {k: len(s) for k, s in sets.items()}["stacks"] == 1  # its own statement and an unknown one are no positives
    trained = {s[i].positive.removesuffix(BODY) for k, s in sets.items() if k != "stacks" for i in range(len(s))}
    _, queries, qrels = read_dev(tmp_path / "data", "problems")
    kept = {docno for judged in qrels.values() for docno in judged}
    assert kept and all(map(held_out, kept))
    assert not trained & kept
    assert queries.keys() == qrels.keys()
    assert 0.1 < len(kept) / len(kept | trained) < 0.2


def test_an_example_that_repeats_an_evaluation_query_is_left_out(sources: tuple[Path, Path], tmp_path: Path) -> None:
    problem = next(p["problem"] for p in PROBLEMS if not held_out(p["docno"]))
    (tmp_path / "seen.jsonl").write_text(json.dumps({"qid": "1", "query": "Rephrased: " + problem.upper()}))
    counts = build(*sources, tmp_path / "all")
    fewer = build(*sources, tmp_path / "data", evaluation_texts=read_evaluation_texts([tmp_path / "seen.jsonl"]))
    assert fewer["left out"] >= 1
    assert fewer["problems"] == counts["problems"] - fewer["left out"]


def test_every_problem_is_there_once_and_names_a_document() -> None:
    texts = [" ".join(p["problem"].lower().split()) for p in PROBLEMS]
    assert len(set(texts)) == len(texts) > 3000
    assert all(p.keys() == {"docno", "problem"} and p["docno"].isalnum() for p in PROBLEMS)


@pytest.mark.parametrize(("name", "made"), [("", "examples-"), ("-reranker", "pairs-")])
def test_the_recipes_read_the_kinds_in_this_order(name: str, made: str) -> None:
    recipe = Recipe.load(f"radar-mini{name}")
    assert [Path(source.path).stem for source in recipe.data] == [made + kind for kind in KINDS]


def test_a_keyword_query_is_made_of_the_rarer_words_of_its_text(sources: tuple[Path, Path], tmp_path: Path) -> None:
    stacks, planetmath = sources
    rare = [f"{a}{b}" for a in ("alpha", "beta", "gamma", "delta") for b in "xyzuvw"]  # each in up to 30 texts of 1,500
    texts = [rf"\mathfrak{{A}} common words {' '.join(rare[i % 20 : i % 20 + 5])}" for i in range(120)]
    train = [{"docno": f"statement-{i}", "text": text} for i, text in enumerate(texts)]
    write(stacks / "corpus.jsonl.gz", [*train, {"docno": "held-out", "text": texts[0]}])
    queries = [{"qid": r["docno"], "query": r["text"], "positives": ["statement-0"]} for r in train]
    write(stacks / "train.jsonl.gz", queries)
    build(stacks, planetmath, tmp_path / "data")
    documents = Documents.from_files([tmp_path / "data" / "documents.jsonl"], tmp_path)
    examples = read_examples(tmp_path / "data" / "examples-keywords.jsonl", documents, cache=tmp_path)
    made = {example.positive: example.query.split() for example in map(examples.__getitem__, range(len(examples)))}
    statements = {docno: words for docno, words in made.items() if docno.startswith("statement-")}
    assert len(statements) == 120
    assert "held-out" not in made  # in the corpus, but of no training chapter
    for docno, words in statements.items():
        text = texts[int(docno.removeprefix("statement-"))].split()
        assert 3 <= len(words) <= 5 and set(words) <= set(rare)
        assert words == sorted(words, key=text.index)
    build(stacks, planetmath, tmp_path / "again")
    paths = [tmp_path / folder / "examples-keywords.jsonl" for folder in ("data", "again")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@given(query=st.text(alphabet=r"\{}ab1 ", min_size=1).map(lambda text: "x" + text * 30))
@settings(deadline=None)
def test_a_query_of_the_reranker_is_cut_at_its_end_and_no_more_than_it_must(query: str) -> None:
    tokenizer = reading_latex(load_tokenizer(MINILM))

    def fits(text: str) -> bool:
        return len(text) <= 350 and len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 100

    cut = beginning(query, tokenizer)
    assert cut and query.startswith(cut) and fits(cut)
    assert len(cut) > 340 or cut == query.strip() or not fits(query[: int(len(cut) / 0.85) + 10])


def test_the_plain_recipe_trains_on_the_given_pairs_and_is_measured(sources: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    build(*sources, data)
    documents = Documents.from_files([data / "documents.jsonl"], tmp_path)
    examples = read_examples(data / "examples-problems.jsonl", documents, cache=tmp_path)
    plain = train_plain(examples, np.arange(8), 4, 0, tmp_path / "plain")
    vectors = {name: Encoder(name).encode_queries(["is it flat"]) for name in ("all-MiniLM-L6-v2", str(plain))}
    assert 0.9 < float(vectors["all-MiniLM-L6-v2"][0] @ vectors[str(plain)][0]) < 0.999999
    assert train_plain(examples, np.arange(0), 4, 0, plain) == plain  # it is there already
    stacks, _ = held_out_sets(data)
    figures = [stacks.measured(run) for run in (stacks.bm25(), stacks.dense(Encoder(plain)))]
    assert all(figure.keys() == {"nDCG@10", "R@100"} and figure["R@100"] == 1 for figure in figures)


def test_the_recipe_learns_what_the_library_does(
    sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, and with no document twice in a batch, which only the recipe masks."""
    build(*sources, tmp_path / "data")
    changes = ["batch_queries=8", "max_steps=4", "warmup_steps=1", "base.dropout=0"]
    recipe = Recipe.load("radar-mini", overrides=[*name_sources(tmp_path / "data", "examples"), *changes])
    ours = train(recipe, tmp_path / "ours")

    def without_dropout(*args: Any, **kwargs: Any) -> SentenceTransformer:
        model = SentenceTransformer(*args, **kwargs)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0
        return model

    monkeypatch.setattr("training.mini.plain.SentenceTransformer", without_dropout)
    plain = train_plain_rows(recipe, tmp_path / "cache", tmp_path / "plain")
    base = load_file(weights_folder(MINILM.name) / "model.safetensors")
    trained = [load_file(folder / "model.safetensors") for folder in (ours, plain)]
    names = [name for name, tensor in trained[1].items() if not torch.equal(tensor, base[name])]
    assert len(names) > 90
    change, difference = (
        sum(float((trained[0][name] - other[name]).square().sum()) for name in names) for other in (base, trained[1])
    )
    assert difference < 1e-5 * change


def test_one_command_goes_from_the_corpora_to_figures(sources: tuple[Path, Path], tmp_path: Path) -> None:
    small = ["max_steps=2", "batch_queries=4", "max_pair_tokens=128", "teacher.weight=0.3"]
    stacks, planetmath = sources
    asked = {"seeds": 2, "plain": True, "sample": 2, "set_": small}
    command = partial(make, stacks=stacks, planetmath=planetmath, output=tmp_path / "made", **asked)
    command(debug=True)
    report = json.loads((tmp_path / "made" / "results.json").read_text())
    systems = ["BM25", "base", "seed 1", "seed 2", "average", "plain, seed 1", "plain, seed 2", "plain, average"]
    for name in ("stacks", "problems"):
        assert [*report["results"][name]] == [
            *systems,
            "BM25 % 100 >> reranker",
            "BM25 % 100 >> reranker, all weights",
        ]
        assert all(0 <= figures["nDCG@10"] <= 1 for figures in report["results"][name].values())
    recipe = Recipe.load(tmp_path / "made" / "reranker-run" / "recipe.yaml")
    assert recipe.teacher and recipe.teacher.name == recipe.base.name and "merged-" in recipe.base.name
    trained = (tmp_path / "made" / "reranker" / "adapter_model.safetensors").stat()
    command(debug=True)  # nothing is trained twice
    assert json.loads((tmp_path / "made" / "results.json").read_text()) == report
    assert (tmp_path / "made" / "reranker-run" / "radar.json").stat().st_mtime < trained.st_mtime


def test_adapters_that_could_not_be_averaged_are_refused_before_training(
    sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stacks, planetmath = sources
    with pytest.raises(typer.Exit):
        make(stacks=stacks, planetmath=planetmath, output=tmp_path / "made", set_=["lora={rank: 2}"])
    assert "leave it null" in capsys.readouterr().err
    assert not (tmp_path / "made" / "seed-1").exists()


def test_a_sample_keeps_what_is_relevant_and_is_always_the_same() -> None:
    documents = {f"d{i}": f"text {i}" for i in range(50)}
    qrels = {f"q{i}": {f"d{i}": 1, f"d{i + 1}": 1} for i in range(10)}
    whole = HeldOut("set", documents, {qid: "query" for qid in qrels}, qrels)
    part = whole.sample(4, 5)
    assert len(part.queries) == 4 and part.queries.keys() == part.qrels.keys()
    assert {docno for judged in part.qrels.values() for docno in judged} <= part.documents.keys()
    assert len(part.documents) <= 13
    assert part == whole.sample(4, 5)
    assert whole.sample(99, 99) == HeldOut("set", documents, part.queries | whole.queries, qrels)
