"""radar index, search and rerank."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyterrier_radar._trec import read_run
from tests.pyterrier_radar.commands.cli import DOCUMENTS, QUERIES, options, radar, succeeds, write_jsonl
from torch_radar import Encoder


def test_search_ranks_as_the_encoder_does(index: Path, tiny_qwen2: Path) -> None:
    query = QUERIES["euler"]
    [answer] = json.loads(succeeds("search", "--index", index, "--query", query, "--num-results", 3, "--json").stdout)
    encoder = Encoder(tiny_qwen2)
    scores = encoder.encode_documents(DOCUMENTS.values()) @ encoder.encode_queries([query])[0]
    best = np.argsort(-scores)[:3]
    assert [hit["docno"] for hit in answer["results"]] == [list(DOCUMENTS)[i] for i in best]
    assert [hit["score"] for hit in answer["results"]] == pytest.approx(scores[best].tolist(), abs=1e-3)


def test_search_leaves_out_what_is_excluded(index: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "exclude.txt").write_text("pigeon bayes\n")
    run = tmp_path / "out.run.gz"
    exclusion = ("--exclude", tmp_path / "exclude.txt", "--exclude-self")
    succeeds("search", "--index", index, "--queries", files["--queries"], *exclusion, "--run", run)
    found = read_run(run).groupby("qid")["docno"].agg(set)
    assert found["pigeon"] == set(DOCUMENTS) - {"pigeon", "bayes"}
    assert found["euler"] == set(DOCUMENTS) - {"euler"}


def test_search_prints_a_table(index: Path) -> None:
    lines = succeeds("search", "--index", index, "--query", "even degree", "--num-results", 2).stdout.splitlines()
    assert lines[0].split() == ["rank", "score", "docno"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]


def test_a_finished_index_is_left_as_it_is(index: Path, files: dict[str, Path], tiny_qwen2: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in index.rglob("*.*") if "manifest" not in path.name}
    succeeds("index", "--docs", files["--docs"], "--index", index, "--model", tiny_qwen2)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_index_is_not_taken_for_another_collections(index: Path, tiny_qwen2: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", {"docno": "x", "text": "y"})
    result = radar("index", "--docs", other, "--index", index, "--model", tiny_qwen2)
    assert result.exit_code == 2
    assert "index of other documents than those of other.jsonl" in result.stderr


def test_an_index_is_not_used_with_another_model(index: Path, files: dict[str, Path]) -> None:
    result = radar("evaluate", *options(files), "--index", index, "--systems", "dense")
    assert result.exit_code == 2
    assert "can't be used with radar-mini" in result.stderr


@pytest.fixture
def first_stage(tmp_path: Path) -> Path:
    lines = [f"{qid} Q0 {docno} {i} {-i} me\n" for qid in QUERIES for i, docno in enumerate(DOCUMENTS)]
    (tmp_path / "in.run").write_text("".join(lines))
    return tmp_path / "in.run"


def test_rerank_scores_with_a_retriever(first_stage: Path, files: dict[str, Path], tiny_qwen2: Path) -> None:
    out = first_stage.with_name("out.run")
    texts = options(files, "--docs", "--queries")
    succeeds("rerank", "--run-in", first_stage, *texts, "--model", tiny_qwen2, "--depth", 4, "--run", out)
    run = read_run(out)
    encoder = Encoder(tiny_qwen2)
    docnos = list(DOCUMENTS)[:4]
    scores = encoder.encode_queries(QUERIES.values()) @ encoder.encode_documents(DOCUMENTS[d] for d in docnos).T
    for qid, row in zip(QUERIES, scores, strict=True):
        ranked = run[run["qid"] == qid]
        assert dict(zip(ranked["docno"], ranked["score"], strict=True)) == pytest.approx(
            dict(zip(docnos, row.tolist(), strict=True)), abs=1e-5
        )


def test_rerank_scores_with_a_reranker(first_stage: Path, files: dict[str, Path], tiny_qwen2_reranker: Path) -> None:
    out = first_stage.with_name("out.run.gz")
    texts = options(files, "--docs", "--queries")
    done = succeeds("rerank", "--run-in", first_stage, *texts, "--model", tiny_qwen2_reranker, "--run", out, "--json")
    assert json.loads(done.stdout)["pairs"] == len(read_run(out)) == len(QUERIES) * len(DOCUMENTS)
