"""Reports and the data card: figures that add up, and texts that stay texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthesis.card import write_card
from synthesis.markdown import escape, table
from synthesis.report import run_figures, write_report
from synthesis.summary import summarise
from tests.synthesis.records import RecordBuilder, records, solved

SAMPLES: dict[str, Any] = {
    "schema": 1,
    "about": {"Corpus": "Theorems | of <all> kinds"},
    "configurations": ["c0ffee"],
    "settings": {"negatives": 11},
    "problems": {"records": 3, "rewarded": 2, "with_uses": 1, "uses": 4, "contaminated": 1},
    "samples": 1234,
    "consensus_samples": 12,
    "calls": {"total": 17, "prompt_tokens": 170, "generated_tokens": 85},
    "theorems": 3,
    "types": {
        "question": {
            "samples": 1000,
            "dropped": {"duplicate": 1},
            "negatives": {"rejected": 3000, "bm25": 5000},
            "short_of_negatives": 2,
            "mean_overlap": None,
        },
        "lexical": {
            "samples": 234,
            "dropped": {"round_trip": 7},
            "negatives": {"bm25": 2000, "dense": 400},
            "short_of_negatives": 0,
            "mean_overlap": 0.625,
        },
    },
    "refused_as_negatives": {"relevant": 9},
    "decontamination": {
        "against": {"aops.jsonl": 111},
        "threshold": 0.5,
        "checked": 4,
        "removed": [
            {
                "id": "p9",
                "text": "Two | pipes\nand a line",
                "query_id": "e1",
                "query": "Two pipes",
                "source": "aops.jsonl",
                "how": "near",
                "similarity": 0.75,
            }
        ],
    },
}


def _records() -> list[dict[str, Any]]:
    unsolved = RecordBuilder("p2", "Too hard")
    unsolved.rollout(unsolved.completion(0, "\\boxed{3}", "3", 0.0))
    unjudged = RecordBuilder("p3", "Nobody knows", answer=None)
    unjudged.rollout(unjudged.completion(0, "\\boxed{3}", "3", 1.0))
    return [solved(), unsolved.record(), unjudged.record()]


def _cell(markdown: str, name: str) -> str:
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {name} |")]
    return line.split("|")[2].strip()


def test_a_summary_counts_what_the_record_holds() -> None:
    summary = summarise(solved())
    assert (summary.rollouts, summary.rewarded, summary.uses) == (6, 4, 4)
    assert summary.kinds == {"root": 1, "thought": 2, "query": 4, "theorem": 5, "completion": 5}
    assert summary.labels == {"relevant": 5, "irrelevant": 4, "unparsable": 1, "on_path": 1}
    assert summary.is_solved and summary.has_answer


def test_figures_are_sums_over_problems_and_unjudged_problems_are_counted_apart() -> None:
    figures = run_figures(map(summarise, _records()))
    assert figures["problems"] == {
        "judged": {"problems": 2, "solved": 1, "rollouts": 7, "rewarded": 4},
        "self_consistency": {"problems": 1, "solved": 1, "rollouts": 1, "rewarded": 1},
    }
    assert figures["calls"]["prompt_tokens"] == 3000 and figures["calls"]["unparsable"] == {"candidates": 3}
    assert figures["calls"]["total"] == sum(record["counts"]["calls"] for record in _records())
    assert figures["theorems"]["problems_with_uses"] == 1


def test_a_report_is_written_as_markdown_and_as_json_with_the_same_figures(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/samples.json").write_text(json.dumps(SAMPLES))
    report = write_report(_records(), tmp_path, dataset=tmp_path / "data", about={"Model": "a|b"})
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "agree with each other, not that they are right" in text
    assert "17 times for queries: 170 tokens read, 85 written" in text
    assert _cell(text, "Prompt tokens not from the cache") == "2,400"
    assert "1 (50.0%)" in text and "4 of 7 (57.1%)" in text
    assert _cell(text, "… rejected") == "4 (40.0%)"
    assert _cell(text, "Generated tokens") == "300"
    assert _cell(text, "Unparsable: candidates") == "3"
    write_report(_records()[:2], tmp_path)
    assert "agree with each other" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| question | 1,000 |" in text and _cell(text, "all") == "1,234" and "| lexical | round\\_trip | 7 |" in text
    assert "4 problems and queries were compared with aops.jsonl (111 queries): 1 removed, 0 equal" in text
    assert "Two \\| pipes and a line" in text and "a\\|b" in text


def test_a_report_says_when_nothing_was_decontaminated_and_needs_no_dataset(tmp_path: Path) -> None:
    assert write_report([solved()], tmp_path)["samples"] is None
    assert "Decontamination" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    (tmp_path / "samples.json").write_text(json.dumps(SAMPLES | {"decontamination": None}))
    write_report([solved()], tmp_path, dataset=tmp_path)
    assert "Not done" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_run_without_a_problem_is_said() -> None:
    with pytest.raises(ValueError, match="no finished problem"):
        run_figures([])


def test_the_card_states_contents_decontamination_and_settings(tmp_path: Path) -> None:
    write_card(SAMPLES, tmp_path / "README.md")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and card.count("\n---\n") == 1
    assert "1,234 samples of 3 theorems" in card and "aops.jsonl (111 queries)" in card
    assert "Theorems \\| of \\<all\\> kinds" in card and "| negatives | 11 |" in card


@given(st.lists(records(), min_size=1, max_size=3))
def test_any_records_can_be_reported(of: list[dict[str, Any]]) -> None:
    figures = run_figures(map(summarise, of))
    groups = figures["problems"].values()
    assert sum(group["problems"] for group in groups) == len(of)
    assert all(group["rewarded"] <= group["rollouts"] and group["solved"] <= group["problems"] for group in groups)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_no_text_breaks_a_table(rows: list[tuple[str, str]]) -> None:
    lines = table(("a", "b"), rows).split("\n")
    assert len(lines) == 2 + len(rows)
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") == 3 for line in lines)
    assert "<" not in escape("<b>").replace("\\<", "")
