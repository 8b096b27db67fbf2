"""Local files and the package's own collection behind PyTerrier's dataset interface."""

import json
from pathlib import Path

import pandas as pd
import pyterrier as pt
import pytest

from pyterrier_radar._files import FileFormatError
from pyterrier_radar.datasets import LocalDataset, RadarDatasetProvider


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    docs = [
        {"docno": "a", "title": "Lagrange", "text": "orders divide"},
        {"docno": "b", "title": "Rolle", "text": "a flat point"},
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(d) + "\n" for d in docs))
    (tmp_path / "queries.tsv").write_text("q1\tsubgroup of 12 elements\n")
    (tmp_path / "qrels.txt").write_text("q1 0 a 2\n")
    return {name.split(".")[0]: tmp_path / name for name in ("docs.jsonl", "queries.tsv", "qrels.txt")}


def test_local_files_offer_corpus_topics_and_qrels(files: dict[str, Path]) -> None:
    dataset = LocalDataset(**files)
    assert [d["text"] for d in dataset.get_corpus_iter(verbose=False)] == [
        "Lagrange orders divide",
        "Rolle a flat point",
    ]
    assert dataset.get_topics().to_dict("list") == {"qid": ["q1"], "query": ["subgroup of 12 elements"]}
    assert dataset.get_qrels().to_dict("list") == {"qid": ["q1"], "docno": ["a"], "label": [2]}
    topics, qrels = dataset.get_topicsqrels()
    assert len(topics) == len(qrels) == 1


def test_positives_beside_the_queries_are_the_judgements(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"qid": "q1", "query": "x", "positives": ["a"]}\n')
    assert LocalDataset(queries=tmp_path / "q.jsonl").get_qrels()["docno"].tolist() == ["a"]


@pytest.mark.parametrize("method", ["get_corpus_iter", "get_topics", "get_qrels", "text_loader"])
def test_what_was_not_given_is_not_supported(method: str) -> None:
    with pytest.raises(NotImplementedError, match=f"does not support {method}"):
        getattr(LocalDataset(), method)()


def test_a_variant_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="no variant 'gpt4_reason'"):
        LocalDataset(**files).get_topics("gpt4_reason")


def test_the_text_loader_adds_texts_by_docno_and_keeps_the_rows(files: dict[str, Path]) -> None:
    results = pd.DataFrame({"qid": ["1", "1", "2"], "docno": ["b", "a", "b"], "rank": [0, 1, 0]}, index=[5, 6, 7])
    loaded = LocalDataset(**files).text_loader("title")(results)
    assert loaded["title"].tolist() == ["Rolle", "Lagrange", "Rolle"]
    pd.testing.assert_frame_equal(loaded[list(results.columns)], results)
    assert set(LocalDataset(**files).text_loader()(results)) == {"qid", "docno", "rank", "title", "text"}


def test_the_text_loader_names_an_unknown_docno_and_field(files: dict[str, Path]) -> None:
    results = pd.DataFrame({"qid": ["1"], "docno": ["zz"]})
    with pytest.raises(ValueError, match="no document 'zz'"):
        LocalDataset(**files).text_loader()(results)
    with pytest.raises(ValueError, match="field 'year'"):
        LocalDataset(**files).text_loader("year")(results.assign(docno="a"))


def test_the_text_loader_can_be_inspected_and_takes_an_empty_frame(files: dict[str, Path]) -> None:
    loader = LocalDataset(**files).text_loader("text")
    assert pt.inspect.transformer_outputs(loader, ["qid", "docno", "score", "rank"]) == [
        "qid",
        "docno",
        "score",
        "rank",
        "text",
    ]
    assert list(loader(pd.DataFrame({"qid": [], "docno": []}))["text"]) == []


def test_a_bad_line_shows_when_it_is_reached(files: dict[str, Path]) -> None:
    files["docs"].write_text(files["docs"].read_text() + "{broken\n")
    with pytest.raises(FileFormatError, match="docs.jsonl:3: is not valid JSON"):
        list(LocalDataset(**files).get_corpus_iter(verbose=False))


def test_pyterrier_finds_the_packages_collection_by_name() -> None:
    dataset = pt.get_dataset("radar:theorems")
    assert repr(dataset) == "radar:theorems"
    assert dataset.get_corpus_lang() == dataset.get_topics_lang() == "en"
    assert list(RadarDatasetProvider().list_dataset_names()) == ["theorems"]


def test_an_unknown_collection_of_the_package_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="there is no collection 'lemmas'; there is theorems"):
        RadarDatasetProvider().get_dataset("lemmas")


def test_every_judgement_of_the_packages_collection_is_about_its_queries_and_documents() -> None:
    dataset = pt.get_dataset("radar:theorems")
    docnos = {d["docno"] for d in dataset.get_corpus_iter(verbose=False)}
    topics, qrels = dataset.get_topicsqrels()
    assert set(qrels["docno"]) <= docnos
    assert set(qrels["qid"]) == set(topics["qid"])
    assert set(qrels["label"]) <= {1, 2}
