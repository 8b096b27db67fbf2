"""One encoder, one collection, two frameworks: the same nDCG@10."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import pandas as pd
import pytest

from mteb_radar import RadarSearch, local_task
from mteb_radar.running import run_tasks
from pyterrier_radar import RadarBiEncoder, RadarIndex


@pytest.mark.parametrize("model", ["tiny", "all-MiniLM-L6-v2"])
def test_both_faces_measure_the_same(model: str, tiny_qwen2: Path, bright_folder: Path, tmp_path: Path) -> None:
    checkpoint = tiny_qwen2 if model == "tiny" else model
    task = local_task(bright_folder)
    data = task.dataset["default"]["standard"]
    documents = [{"docno": d["id"], "text": d["text"]} for d in data["corpus"]]
    topics = pd.DataFrame({"qid": list(data["queries"]["id"]), "query": list(data["queries"]["text"])})
    docnos = {d["docno"] for d in documents}
    excluded = [(qid, docno) for qid, allowed in data["top_ranked"].items() for docno in docnos - set(allowed)]
    qrels = pd.DataFrame(
        [(qid, docno, 1) for qid, relevant in data["relevant_docs"].items() for docno in relevant]
        + [(qid, docno, -100) for qid, docno in excluded],
        columns=["qid", "docno", "label"],
    )
    assert len(excluded) == 4

    index = RadarIndex(tmp_path / "index", RadarBiEncoder(checkpoint), dtype="float32").index(documents)
    run = index.retriever(num_results=1000, exclude=qrels)(topics)
    run = run.rename(columns={"qid": "query_id", "docno": "doc_id"})
    judged = qrels[qrels["label"] > 0].rename(columns={"qid": "query_id", "docno": "doc_id", "label": "relevance"})
    by_pyterrier = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, run)[ir_measures.nDCG @ 10]

    (result,) = run_tasks(
        RadarSearch(checkpoint, folder=tmp_path / "vectors"), [task], tmp_path, progress=lambda _: None
    )
    by_mteb = result.scores["standard"][0]["ndcg_at_10"]
    assert 0 < by_mteb < 1
    assert by_mteb == pytest.approx(by_pyterrier, abs=5e-5)
