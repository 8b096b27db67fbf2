"""radar demo, its figure and its report."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tests.pyterrier_radar.commands.cli import succeeds


def test_demo_writes_results_runs_figure_and_report(tiny_qwen2: Path, tmp_path: Path) -> None:
    result = succeeds("demo", "--model", tiny_qwen2, "--out", tmp_path / "demo")
    assert "report.html" in result.stdout and str(tiny_qwen2) in result.stdout
    report = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert list(report["systems"]) == ["bm25", "dense", "hybrid", "scored"]
    assert all(set(row["measures"]) == {"nDCG@10", "R@100"} for row in report["systems"].values())
    assert (tmp_path / "demo" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "demo" / "runs").glob("*.run.gz"))) == 4
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count('<section class="problem">') == 3
    assert "data:image/png;base64," in page and "http" not in page.replace("data:image", "")


def test_the_report_escapes_every_text() -> None:
    from pyterrier_radar.commands._report import Hit, Problem, page

    evil = "<script>alert('&')</script>"
    report = {
        "dataset": evil,
        "caveat": evil,
        "queries": 1,
        "documents": 1,
        "model": evil,
        "model_note": evil,
        "device": evil,
        "dtype": evil,
        "systems": {"s": {"measures": {evil: 1.0}, "ms_per_query": 1.0}},
    }
    problem = Problem(evil, evil, evil, [(evil, [Hit(evil, evil, 1)])], [evil])
    text = page(report, {"s": evil}, b"", [problem])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 15


def test_the_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    from pyterrier_radar.commands._figure import interval

    values = np.random.default_rng(1).random(400)
    low, high = interval(values)
    assert low < values.mean() < high
    few_low, few_high = interval(values[:40])
    assert high - low < few_high - few_low
    assert interval(values) == (low, high)


def test_a_query_without_results_counts_as_zero() -> None:
    from pyterrier_radar.commands._measures import parse_measures, per_query

    qrels = pd.DataFrame({"qid": ["1", "2"], "docno": ["a", "b"], "label": [1, 1]})
    results = pd.DataFrame({"qid": ["1"], "docno": ["a"], "score": [1.0], "rank": [0]})
    assert per_query(results, qrels, parse_measures("RR")).to_dict() == {"RR": {"1": 1.0, "2": 0.0}}


def test_equal_scores_count_in_the_rankings_order() -> None:
    from pyterrier_radar.commands._measures import parse_measures, per_query

    qrels = pd.DataFrame({"qid": ["1"], "docno": ["a"], "label": [1]})
    results = pd.DataFrame({"qid": "1", "docno": ["a", "b", "c"], "score": 0.5, "rank": [0, 1, 2]})
    assert per_query(results, qrels, parse_measures("RR"))["RR"].tolist() == [1.0]
