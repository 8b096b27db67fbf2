"""nDCG@10 while training is what ir_measures and the definition give, over rankings without excluded documents."""

from __future__ import annotations

import math
from pathlib import Path

import ir_measures
import pytest

from tests.training.runs import evaluation, write_recipe
from torch_radar.encoder import Encoder
from training.data import DataError
from training.evaluation import RankingEvaluator, evaluator_for, measure, read_queries, retrieve
from training.model import TextModel, make_trainable
from training.recipe import Lora
from training.run import load_base

DOCUMENTS = {
    f"d{i}": text for i, text in enumerate(["finite group", "ferry at noon", "a bounded interval", "étale", "x"])
}
QUERIES = {"q0": "which group?", "q1": "when does the ferry leave?", "d2": "a bounded interval"}


def test_the_mean_is_the_definition_s_and_a_judged_query_without_ranking_counts_as_nothing() -> None:
    run = {"q0": {"d0": 3.0, "d1": 2.0, "d2": 1.0}, "q1": {"d4": 1.0, "d1": 0.5}, "unjudged": {"d0": 1.0}}
    qrels = {"q0": {"d1": 2, "d2": 1}, "q1": {"d1": 1}, "q2": {"d0": 1}}
    first = (2 / math.log2(3) + 1 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    second = 1 / math.log2(3)
    assert measure(run, qrels)["nDCG@10"] == pytest.approx((first + second + 0) / 3)


@pytest.fixture
def encoder(tiny_qwen2: Path) -> Encoder:
    return Encoder(str(tiny_qwen2))


def test_a_ranking_is_exact_and_excluded_documents_leave_it(encoder: Encoder) -> None:
    run = retrieve(encoder, DOCUMENTS, QUERIES, depth=4)
    scores = encoder.encode_queries(list(QUERIES.values())) @ encoder.encode_documents(list(DOCUMENTS.values())).T
    for row, qid in enumerate(QUERIES):
        assert list(run[qid]) == [f"d{i}" for i in scores[row].argsort()[::-1][:4]]
        assert list(run[qid].values()) == pytest.approx(sorted(scores[row], reverse=True)[:4], abs=1e-5)
    excluded = retrieve(encoder, DOCUMENTS, QUERIES, excluded={"d2": ["d2", "elsewhere"]})
    assert "d2" not in excluded["d2"] and len(excluded["d2"]) == 4
    assert "d2" in excluded["q0"] and len(excluded["q0"]) == 5


@pytest.mark.parametrize("kind", ["retriever", "reranker"])
def test_the_evaluator_measures_without_dropout_and_leaves_the_mode(kind, base, data, tmp_path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", base, kind, data)
    loaded, checkpoint = load_base(recipe)
    make_trainable(loaded, Lora(rank=4, dropout=0.9))
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    model = [TextModel(loaded, checkpoint).train()]
    qrels = {"q0": {"d0": 1}, "d2": {"d2": 1, "d1": 1}}
    candidates = {qid: dict.fromkeys(DOCUMENTS, 0.0) for qid in QUERIES}

    def evaluator(**settings) -> RankingEvaluator:
        return RankingEvaluator(DOCUMENTS, QUERIES, qrels, candidates=candidates, **settings)

    first = evaluator()(model)
    assert evaluator()(model) == first
    assert model[0].training and loaded.model.training
    model[0].eval()
    run = evaluator()._run(model[0])
    assert set(run) == {"q0", "d2"}, "queries nobody judged are not computed"
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10]
    assert first["nDCG@10"] == pytest.approx(expected)
    without = evaluator(excluded={"d2": ["d2"]})._run(model[0])
    assert set(without["d2"]) == set(run["d2"]) - {"d2"} and without["q0"].keys() == run["q0"].keys()


def test_a_recipe_can_exclude_each_query_s_own_document(base, data, tmp_path) -> None:
    settings = {"evaluation": evaluation(data, exclude_self=True)}
    made = evaluator_for(write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings), tmp_path)
    assert made.excluded == {qid: [qid] for qid in made.queries}
    assert evaluator_for(write_recipe(tmp_path / "r.yaml", base, "retriever", data), tmp_path) is None


def test_queries_are_jsonl_or_tab_separated_and_errors_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"qid": 1, "query": "é\\tb"}\n')
    (tmp_path / "q.tsv").write_text("1\tone\ttwo\n2\tthree\n")
    assert read_queries(tmp_path / "q.jsonl") == {"1": "é\tb"}
    assert read_queries(tmp_path / "q.tsv") == {"1": "one\ttwo", "2": "three"}
    (tmp_path / "q.tsv").write_text("1\tone\nnothing\n")
    with pytest.raises(DataError, match=r"q.tsv:2: not a query"):
        read_queries(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("1\tone\n1\tagain\n")
    with pytest.raises(DataError, match=r"q.tsv:2: qid '1' occurs twice"):
        read_queries(tmp_path / "q.tsv")
