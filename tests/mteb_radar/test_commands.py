"""A benchmark in BRIGHT's shape from end to end through the command, offline: run, resume, rerank, report, submit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import mteb
import pytest
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.results import TaskResult
from typer.testing import CliRunner, Result

from mteb_radar import RadarSearch, local_task
from mteb_radar.commands import app
from tests.mteb_radar.conftest import LONG_TASK, TASK


def _radar(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["mteb", *map(str, arguments)])


def _ok(*arguments: str | Path) -> Result:
    result = _radar(*arguments)
    assert result.exit_code == 0, result.output + result.stderr
    return result


@pytest.fixture(scope="module")
def ran(tiny_qwen2: Path, bright_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("results")
    return output, _ok("run", "--model", tiny_qwen2, "--local", bright_folder, "--output", output, "--json")


def _results(output: Path, model: Path) -> Path:
    (folder,) = (output / "results" / f"local__{model.name}").iterdir()
    return folder


def test_a_run_writes_results_that_mteb_reads(ran: tuple[Path, Result], tiny_qwen2: Path) -> None:
    output, result = ran
    scores = json.loads(result.stdout)
    assert scores.keys() == {TASK, LONG_TASK}
    folder = _results(output, tiny_qwen2)
    for name, split, measure in ((TASK, "standard", "ndcg_at_10"), (LONG_TASK, "long", "recall_at_1")):
        (score,) = TaskResult.from_disk(folder / f"{name}.json").scores[split]
        assert score["main_score"] == score[measure] == pytest.approx(scores[name], abs=1e-5)
    assert json.loads((folder / "model_meta.json").read_text())["revision"] == folder.name
    assert str(output) not in (folder / "model_meta.json").read_text()


def test_rankings_hold_no_excluded_document(ran: tuple[Path, Result]) -> None:
    (path,) = ran[0].rglob(f"{TASK}_predictions.json")
    ranking = json.loads(path.read_text())["default"]["standard"]
    assert len(ranking["q0"]) == 60
    assert len(ranking["q2"]) == 58
    assert "d15" not in ranking["q2"]


def test_a_second_run_runs_nothing_again(
    ran: tuple[Path, Result], tiny_qwen2: Path, bright_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mteb_radar.search.RadarSearch.index", lambda *_, **__: pytest.fail("it ran again"))
    again = _ok("run", "--model", tiny_qwen2, "--local", bright_folder, "--output", ran[0], "--json")
    assert json.loads(again.stdout) == json.loads(ran[1].stdout)
    assert "(was there)" in again.stderr


def test_a_task_whose_data_changed_is_not_taken_from_old_results(
    ran: tuple[Path, Result], tiny_qwen2: Path, bright_folder: Path, tmp_path: Path
) -> None:
    changed = tmp_path / TASK
    changed.mkdir()
    for path in bright_folder.iterdir():
        (changed / path.name).write_text(path.read_text().replace("Theorem 3:", "Lemma 3:"))
    result = _radar("run", "--model", tiny_qwen2, "--local", changed, "--output", ran[0])
    assert result.exit_code == 2
    assert "choose another --output, or remove that file" in result.stderr


def test_two_stages_score_the_rerankers_order_of_the_first_stages_documents(
    ran: tuple[Path, Result], tiny_qwen2_reranker: Path, bright_folder: Path
) -> None:
    output = ran[0]
    (first,) = {path.parent for path in output.rglob(f"{TASK}_predictions.json")}
    common = ["--rankings", first, "--local", bright_folder, "--output", output, "--json"]
    _ok("rerank", "--model", tiny_qwen2_reranker, *common, "--top-k", "5")
    path = next(p for p in output.rglob(f"{TASK}_predictions.json") if tiny_qwen2_reranker.name in str(p))
    reranked = json.loads(path.read_text())["default"]["standard"]
    ranking = json.loads((first / path.name).read_text())["default"]["standard"]
    for qid, scores in reranked.items():
        assert set(scores) == set(sorted(ranking[qid], key=lambda d: -ranking[qid][d])[:5])
    (result,) = (output / "results" / f"local__{tiny_qwen2_reranker.name}").rglob(f"{TASK}.json")
    assert "top_k_5" in str(result)  # another depth is another place
    _ok("rerank", "--model", tiny_qwen2_reranker, *common, "--top-k", "3")
    assert len(list((output / "results" / f"local__{tiny_qwen2_reranker.name}").rglob(f"{TASK}.json"))) == 2


def _trec(path: Path, first: str, second: str) -> Path:
    path.parent.mkdir()
    path.write_text("".join(f"q{i} Q0 {first} 1 2 x\nq{i} Q0 {second} 2 1 x\n" for i in range(8)))
    return path.parent


def _short(bright_folder: Path, tmp_path: Path) -> Path:
    """The task of the short documents alone."""
    folder = tmp_path / "short" / TASK
    folder.mkdir(parents=True)
    for name in ("documents.jsonl", "examples.jsonl"):
        (folder / name).write_text((bright_folder / name).read_text())
    return folder


def test_another_first_stage_in_a_file_of_the_same_name_is_another_place(
    tiny_qwen2_reranker: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _short(bright_folder, tmp_path)
    common = ["--model", tiny_qwen2_reranker, "--local", task, "--output", tmp_path / "out"]
    for folder in (
        _trec(tmp_path / "bm25" / f"{TASK}.trec", "d0", "d1"),
        _trec(tmp_path / "b" / f"{TASK}.trec", "d2", "d3"),
    ):
        assert "(was there)" not in _ok("rerank", *common, "--rankings", folder).stderr
    found = [json.loads(path.read_text())["default"]["standard"] for path in tmp_path.rglob(f"{TASK}_predictions.json")]
    assert sorted(sorted(ranking["q0"]) for ranking in found) == [["d0", "d1"], ["d2", "d3"]]
    monkeypatch.setattr("mteb_radar.running.as_reranking", lambda *_: pytest.fail("its data was loaded again"))
    assert "(was there)" in _ok("rerank", *common, "--rankings", tmp_path / "bm25").stderr


def test_rankings_whose_maker_is_unknown_are_named_after_their_folder(
    tiny_qwen2_reranker: Path, bright_folder: Path, tmp_path: Path
) -> None:
    rankings = {f"q{i}": {"d0": 2.0, "d1": 1.0} for i in range(8)}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"{TASK}_predictions.json").write_text(
        json.dumps({"mteb_model_meta": {}, "default": {"standard": rankings}})
    )
    task = _short(bright_folder, tmp_path)
    common = ["--model", tiny_qwen2_reranker, "--local", task, "--output", tmp_path / "out"]
    _ok("rerank", *common, "--rankings", tmp_path / "mine")
    assert "first_stage_mine@" in str(next((tmp_path / "out" / "results").rglob(f"{TASK}.json")))


def test_a_half_written_result_is_named(
    ran: tuple[Path, Result], tiny_qwen2: Path, bright_folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / _results(ran[0], tiny_qwen2).relative_to(ran[0])
    place.mkdir(parents=True)
    whole = (_results(ran[0], tiny_qwen2) / f"{TASK}.json").read_text()
    (place / f"{TASK}.json").write_text(whole[:100])
    result = _radar("run", "--model", tiny_qwen2, "--local", bright_folder, "--output", tmp_path)
    assert result.exit_code == 2
    assert f"{TASK}.json is no result of mteb" in result.stderr


def test_a_result_without_the_split_that_is_asked_for_was_not_there(
    ran: tuple[Path, Result], tiny_qwen2: Path, bright_folder: Path, tmp_path: Path
) -> None:
    task = _short(bright_folder, tmp_path)
    place = tmp_path / _results(ran[0], tiny_qwen2).relative_to(ran[0])
    place.mkdir(parents=True)
    result = json.loads((_results(ran[0], tiny_qwen2) / f"{TASK}.json").read_text())
    result["dataset_revision"] = local_task(task).metadata.revision
    result["scores"] = {"another": result["scores"]["standard"]}
    (place / f"{TASK}.json").write_text(json.dumps(result))
    common = ["--model", tiny_qwen2, "--local", task, "--output", tmp_path]
    assert "(was there)" not in _ok("run", *common).stderr
    assert "(was there)" in _ok("run", *common).stderr


def test_a_split_that_some_tasks_lack_leaves_those_out_and_means_are_of_one_measure(
    ran: tuple[Path, Result], tiny_qwen2: Path, bright_folder: Path
) -> None:
    common = ["--model", tiny_qwen2, "--local", bright_folder, "--output", ran[0]]
    assert json.loads(_ok("run", *common, "--split", "long", "--json").stdout).keys() == {LONG_TASK}
    scores = json.loads(ran[1].stdout)
    shown = {line.rsplit(maxsplit=1)[0]: line.split()[-1] for line in _ok("run", *common).stdout.splitlines()}
    assert shown["mean ndcg_at_10"] == f"{100 * scores[TASK]:.2f}"
    assert shown["mean recall_at_1"] == f"{100 * scores[LONG_TASK]:.2f}"
    result = _radar("run", *common, "--split", "logn")
    assert "has a split 'logn'; they have long, standard" in result.stderr


def test_rankings_of_another_program_are_measured_like_a_model(
    ran: tuple[Path, Result], bright_folder: Path, tmp_path: Path
) -> None:
    (path,) = [
        p for p in ran[0].rglob(f"{TASK}_predictions.json") if p.parent.parent.name.startswith("local__tiny-retriever")
    ]
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / f"{LONG_TASK}_predictions.json").write_text(
        path.with_name(f"{LONG_TASK}_predictions.json").read_text(), encoding="utf-8"
    )
    lines = [
        f"{qid} Q0 {docno} {rank} {score} hybrid"
        for qid, scores in json.loads(path.read_text())["default"]["standard"].items()
        for rank, (docno, score) in enumerate(scores.items())
    ]
    lines.append("q2 Q0 d15 0 9.0 hybrid")  # excluded: it must not come first
    (folder / f"{TASK}.trec").write_text("\n".join(lines))
    replayed = _ok(
        "run", "--rankings", folder, "--name", "local/hybrid", "--local", bright_folder, "--output", tmp_path, "--json"
    )
    for name, score in json.loads(ran[1].stdout).items():
        assert json.loads(replayed.stdout)[name] == pytest.approx(score, abs=1e-5)


def test_a_report_names_every_system_and_draws_them(ran: tuple[Path, Result], tiny_qwen2: Path, tmp_path: Path) -> None:
    peer = tmp_path / "peer" / "results" / "org__other" / ("2" * 40)
    peer.mkdir(parents=True)
    own = _results(ran[0], tiny_qwen2)
    (peer / f"{TASK}.json").write_text((own / f"{TASK}.json").read_text())
    meta = json.loads((own / "model_meta.json").read_text())
    (peer / "model_meta.json").write_text(json.dumps(meta | {"name": "org/other", "revision": "2" * 40}))
    shown = _ok("report", own, "--peer", tmp_path / "peer", "--output", tmp_path)
    assert "org/other" in shown.stdout
    assert f"local/{tiny_qwen2.name}" in shown.stdout
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--task", "BrightPonyRetrieval", "--split", "long"],
            "BrightPonyRetrieval has no split 'long'; it has standard",
        ),
        (["run", "--task", "BrightPoniRetrieval"], "mteb has no task 'BrightPoniRetrieval'"),
        (["run"], "nothing to run"),
        (["run", "--model", "Raderspace/RaDeR_Qwen25_7B_NuminaMath"], "unknown checkpoint"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(arguments: list[str], message: str) -> None:
    result = _radar(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_cross_encoder_on_a_retrieval_task_is_refused_before_its_weights_are_fetched(
    bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mteb_radar.facts.weights_folder", lambda *_: pytest.fail("it fetched the weights"))
    common = ["--model", "reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes", "--output", tmp_path]
    result = _radar("run", *common, "--local", bright_folder)
    assert result.exit_code == 2
    assert "radar mteb rerank" in result.stderr
    result = _radar("run", *common, "--task", "AskUbuntuDupQuestions", "--instruction", "x")
    assert result.exit_code == 2
    assert "leave --instruction out" in result.stderr


@pytest.mark.parametrize("command", [["rerank", "--model", "m", "--rankings", "r"], ["mock"]])
def test_what_runs_on_one_device_refuses_two(command: list[str]) -> None:
    result = _radar(*command, "--device", "cpu,cpu")
    assert result.exit_code == 2
    assert "name one" in result.stderr


def test_half_written_rankings_are_found_before_anything_is_scored(
    tiny_qwen2_reranker: Path, bright_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch_radar.reranker.Reranker.score", lambda *_: pytest.fail("it scored"))
    (tmp_path / f"{TASK}_predictions.json").write_text('{"mteb_model_meta": {"model_name": "x", "revi')
    (tmp_path / f"{LONG_TASK}_predictions.json").write_text("{}")
    result = _radar("rerank", "--model", tiny_qwen2_reranker, "--rankings", tmp_path, "--local", bright_folder)
    assert result.exit_code == 2
    assert f"{TASK}_predictions.json is half-written" in result.stderr
    (tmp_path / f"{TASK}_predictions.json").unlink()
    missing = _radar("rerank", "--model", tiny_qwen2_reranker, "--rankings", tmp_path, "--local", bright_folder)
    assert "there are no rankings at" in missing.stderr


def test_mixed_revisions_are_found(ran: tuple[Path, Result], tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "org__model" / ("3" * 40)
    folder.mkdir(parents=True)
    for path in _results(ran[0], tiny_qwen2).glob("*.json"):
        (folder / path.name).write_text(path.read_text())
    for command in (["report", tmp_path], ["prepare-submission", tmp_path, "--output", tmp_path / "out"]):
        result = _radar(*command)
        assert result.exit_code == 2
        assert "named after another revision" in result.stderr


def test_mtebs_own_command_line_gets_its_arguments_and_sees_our_models(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def main() -> None:
        name = "Raderspace/RaDeR_Qwen_25_7B_instruct_MATH_LLMq_CoT_lexical"
        seen.append((sys.argv, mteb.get_model_meta(name).loader))

    monkeypatch.setattr("mteb.cli.main", main)
    monkeypatch.setattr(sys, "argv", sys.argv)
    with patch.dict(MODEL_REGISTRY):
        _ok("cli", "run", "--help", "-m", "x")
    assert seen == [(["mteb", "run", "--help", "-m", "x"], RadarSearch)]
