"""An experiment refuses before it computes, wastes no index, and shows no key."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyterrier_radar import RadarBiEncoder
from pyterrier_radar.commands._collection import cache_folder, load_task, open_collection
from pyterrier_radar.commands._runs import Ranking, RunFolder
from pyterrier_radar.commands._systems import Settings, Systems
from pyterrier_radar.experiments import MS_MARCO, Experiment, LanguageModelServer, Split, run
from pyterrier_radar.experiments._results import _p
from pyterrier_radar.experiments._runner import open_split, rewritten
from radar_llm import Completion, GenerationError
from tests.pyterrier_radar.commands.bright_folder import write_split
from tests.pyterrier_radar.commands.cli import radar, succeeds, write_jsonl
from torch_radar.local_tasks import read_choices

DOCUMENTS = {"a": "loops repeat a block", "b": "lists hold values", "c": "actors send messages"}
EXAMPLES = [("q1", "how do loops work", ["a"], []), ("q2", "what do lists hold", ["b"], ["c"])]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_split(tmp_path / "data" / "pony", DOCUMENTS, EXAMPLES)
    return tmp_path / "data"


@pytest.fixture
def encoder(tiny_qwen2: Path) -> RadarBiEncoder:
    return RadarBiEncoder(tiny_qwen2)


def test_the_queries_of_ms_marco_share_one_index() -> None:
    folders = {cache_folder(open_collection(str(split.dataset)), "dense") for split in MS_MARCO.splits}
    assert len(folders) == 1 and folders.pop().name.startswith("msmarco-passage-")


def test_a_servers_key_is_not_in_its_repr() -> None:
    assert "secret" not in repr(LanguageModelServer("m", "http://localhost/v1", "secret"))


@pytest.mark.parametrize(
    ("option", "value"), [("--text-field", "body"), ("--empty-text", "skip"), ("--exclude-self", None)]
)
def test_options_that_an_experiment_does_not_read_are_refused(option: str, value: str | None, data: Path) -> None:
    more = (option,) if value is None else (option, value)
    result = radar("evaluate", "bright", "--data", data, "--splits", "pony", "--systems", "bm25", *more)
    assert result.exit_code == 2 and f"decides {option} itself" in result.stderr


@pytest.mark.parametrize(
    ("systems", "queries", "problem"),
    [
        (["bm25"], ["original", "rewritten"], "needs a language model"),
        (["bm25", "rated"], ["original"], "needs a language model"),
        (["bm25", "reranked"], ["original"], "reranked needs a reranker"),
        (["bm25", "sparse"], ["original"], "unknown system 'sparse'"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    systems: list[str], queries: list[str], problem: str, data: Path, encoder: RadarBiEncoder, tmp_path: Path
) -> None:
    experiment = Experiment("mine", "Mine", (Split("pony", None, ("nDCG@10",)),))
    with pytest.raises(ValueError, match=problem):
        run(experiment, systems, encoder, tmp_path / "out", queries=queries, data=data)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("last", [Split("absent", None, ("nDCG@10",)), Split("pony", None, ("nDGC@10",))])
def test_a_split_that_cannot_run_is_said_before_the_others_run(
    last: Split, data: Path, encoder: RadarBiEncoder, tmp_path: Path
) -> None:
    experiment = Experiment("mine", "Mine", (Split("pony", None, ("nDCG@10",)), last))
    with pytest.raises((ValueError, FileNotFoundError), match=r"nothing of absent|unknown measure 'nDGC@10'"):
        run(experiment, ["bm25"], encoder, tmp_path / "out", data=data)
    assert not (tmp_path / "out").exists()


def test_measures_may_have_any_name_that_ir_measures_knows(data: Path, encoder: RadarBiEncoder, tmp_path: Path) -> None:
    experiment = Experiment("mine", "Mine", (Split("pony", None, ("MRR@10", "Recall@100")),))
    [cell] = run(experiment, ["bm25"], encoder, tmp_path / "out", data=data)
    assert cell.mean(cell.split.main_measure) == 1.0 and list(cell.values) == ["MRR@10", "Recall@100"]


def test_a_split_is_selected_however_its_name_is_spelled() -> None:
    experiment = Experiment("mine", "Mine", (Split("my_notes", None, ("nDCG@10",)),))
    assert len(experiment.select(["my-notes"]).splits) == len(experiment.select(["my_notes"]).splits) == 1


def _beir(folder: Path) -> Path:
    (folder / "siqa").mkdir(parents=True)
    write_jsonl(folder / "siqa" / "corpus.jsonl", {"_id": "d1", "text": "proud"}, {"_id": "d2", "text": ""})
    write_jsonl(folder / "siqa" / "queries.jsonl", {"_id": "q1", "text": "proud of what"})
    return folder


def test_an_empty_document_of_a_beir_folder_is_kept_as_one_of_ir_datasets_is(tmp_path: Path, tiny_qwen2: Path) -> None:
    folder = _beir(tmp_path / "data")
    (folder / "siqa" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    options = ("--data", folder, "--splits", "siqa", "--systems", "bm25", "--output", tmp_path / "out")
    report = json.loads(succeeds("evaluate", "rar-b", *options, "--model", tiny_qwen2, "--json").stdout)
    assert report["splits"]["siqa"]["systems"]["original"]["bm25"]["measures"]["nDCG@10"] == 1.0


def test_a_beir_folder_without_judgements_is_said_with_the_file_to_add(tmp_path: Path) -> None:
    options = ("--data", _beir(tmp_path / "data"), "--splits", "siqa", "--systems", "bm25", "--output", tmp_path)
    result = radar("evaluate", "rar-b", *options)
    assert result.exit_code == 2 and "qrels/test.tsv" in result.stderr


class _Refusing:
    """A rater whose server refuses the first pairs."""

    model = "refusing"

    def __init__(self, refused: int) -> None:
        from radar_llm import Usage

        self.usage = Usage()
        self.refused = refused

    def _settings_key(self) -> tuple[str, ...]:
        return (self.model,)

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        is_missing = np.arange(len(frame)) < self.refused
        rating = np.where(is_missing, np.nan, 5.0)
        return frame.assign(score=0.0, rating=rating, rating_status=np.where(is_missing, "missing", "rated"))


def test_ratings_of_which_there_is_none_are_an_error_and_not_kept(
    data: Path, encoder: RadarBiEncoder, tmp_path: Path
) -> None:
    collection = open_split(Split("pony", None, ("nDCG@10",)), data)
    task = load_task(collection, variant=None, exclude_self=False)

    def rated(refused: int) -> Ranking:
        rater: Any = _Refusing(refused)
        runs = RunFolder(tmp_path, "x")
        return Systems(collection, task, encoder, None, Settings(), runs, ["rated"], rater).ranking("rated")

    with pytest.raises(ValueError, match="refusing rated none of 5 pairs"):
        rated(5)
    assert not list(tmp_path.glob("x.rat*"))
    assert rated(2).facts["missing"] == 2 and len(list(tmp_path.glob("x.rat*.run.gz"))) == 2
    assert rated(0).facts["missing"] == 0, "the next run did not ask again for what was missing"
    assert rated(5).reused


def test_queries_of_which_none_was_rewritten_are_an_error_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyterrier_radar._reasoning import ReasoningQuery

    monkeypatch.setattr(ReasoningQuery, "_answers", lambda _, queries: [GenerationError("too long") for _ in queries])
    topics = pd.DataFrame({"qid": ["q1"], "query": ["why?"]}, dtype="str")
    server = LanguageModelServer("m", "http://localhost/v1")
    with pytest.raises(ValueError, match="m rewrote none of 1 queries of pony"):
        rewritten(topics, Split("pony", None, ("nDCG@10",)), server, tmp_path)
    assert not list(tmp_path.glob("queries/*"))
    answers = [GenerationError("too long"), Completion("think", "stop", 1, 1, None, "key", False)]
    monkeypatch.setattr(ReasoningQuery, "_answers", lambda *_: answers)
    topics = pd.DataFrame({"qid": ["q1", "q2"], "query": ["why?", "how?"]}, dtype="str")
    assert rewritten(topics, Split("pony", None, ("nDCG@10",)), server, tmp_path)["query"][0] == "why?"
    assert not list(tmp_path.glob("queries/*")), "the next run would not ask again for what is missing"


def test_the_randomisation_test_of_many_queries_needs_little_memory() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    differences = np.random.default_rng(0).normal(0.002, 0.1, 7000)
    assert 0 < _p(differences, "randomisation") <= 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


def test_a_row_of_choices_without_a_query_is_named(tmp_path: Path) -> None:
    (tmp_path / "piqa.csv").write_text("documents,labels,queries\n\"['a', 'b']\",0\n")
    with pytest.raises(ValueError, match=r"piqa.csv, row 1: needs queries"):
        read_choices(tmp_path / "piqa.csv")
