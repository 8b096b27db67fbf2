"""Views: whole, offline, inert, and with what a reader looks for."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthesis.files import safe_name
from synthesis.viewer import problem_page, write_views
from synthesis.viewer.layout import layout
from tests.synthesis.records import RecordBuilder, records, solved

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&</style></title>"
VOID = {"meta", "input", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Elements with attributes, and the text of each; fails where elements are not closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "p" and self._open[-1] != "p":
            return
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open and self._open[-1] == "script" else self.text).append(data)

    def classes(self, tag: str, name: str) -> list[dict[str, str | None]]:
        return [found for of, found in self.elements if of == tag and name in (found.get("class") or "").split()]


def _evil() -> dict[str, Any]:
    tree = RecordBuilder(EVIL, EVIL, EVIL, configuration=EVIL)
    query = tree.query(tree.thought(0, EVIL), EVIL, EVIL, {EVIL: "relevant", f"{EVIL}2": "irrelevant"})
    tree.rollout(tree.completion(tree.theorem(query, EVIL, EVIL), EVIL, EVIL, 1.0))
    return tree.record()


def _sample(record: dict[str, Any], node: int, text: str) -> dict[str, Any]:
    return {
        "query_id": text,
        "query": text,
        "query_type": "llmq",
        "positive": {"docno": text, "text": text},
        "negatives": [{"docno": text, "text": text, "origin": text}],
        "also_relevant": [],
        "provenance": {"problem": record["problem_id"], "configuration": record["configuration"], "node": node},
    }


def _written(folder: Path, of: list[dict[str, Any]], samples: list[dict[str, Any]]) -> list[Path]:
    (folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in samples), encoding="utf-8")
    index = write_views(of, folder / "views", samples=folder / "train.jsonl", title=EVIL)
    return [index, *sorted((folder / "views" / "problems").iterdir())]


def test_every_text_is_inert(tmp_path: Path) -> None:
    record = _evil()
    for path in _written(tmp_path, [record], [_sample(record, 3, EVIL)]):
        page = Page(path.read_text(encoding="utf-8"))
        assert len(page.scripts) == 1 and "alert" not in page.scripts[0]
        assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "link", "base", "form")]
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert EVIL in "".join(page.text)


def test_a_page_needs_nothing_from_elsewhere_and_lets_no_other_script_run(tmp_path: Path) -> None:
    record = solved()
    for path in _written(tmp_path, [record], [_sample(record, 3, "x")]):
        page = Page(path.read_text(encoding="utf-8"))
        addresses = [
            value for _, found in page.elements for name, value in found.items() if name in ("href", "src", "action")
        ]
        assert all(value and value.startswith(("#", "problems/", "../index.html")) for value in addresses)
        (policy,) = [found["content"] for tag, found in page.elements if tag == "meta" and "http-equiv" in found]
        assert policy and policy.startswith("default-src 'none';") and "script-src 'sha256-" in policy


def test_links_lead_to_elements_and_files_that_are_there(tmp_path: Path) -> None:
    record = solved("a/../b")
    index, *pages = _written(tmp_path, [record, solved("other")], [_sample(record, 3, "x"), _sample(record, 8, "y")])
    for path in [index, *pages]:
        page = Page(path.read_text(encoding="utf-8"))
        ids = {found["id"] for _, found in page.elements if "id" in found}
        for address in [found["href"] or "" for _, found in page.elements if "href" in found]:
            assert address[1:] in ids if address.startswith("#") else (path.parent / address).is_file()


def test_a_page_shows_every_node_with_value_visits_and_kind_and_the_winning_path(tmp_path: Path) -> None:
    record = solved()
    page = Page(problem_page(record, []))
    rows = page.classes("a", "row")
    assert sorted(int(row["data-node"] or "") for row in rows) == list(range(len(record["nodes"])))
    shown = {int(row["data-node"] or ""): (row["class"] or "").split() for row in rows}
    assert all(record["nodes"][number]["kind"] in classes for number, classes in shown.items())
    assert [number for number, classes in shown.items() if "winning" in classes] == [0, 1, 2, 3, 4]
    assert {number for number, classes in shown.items() if "rewarded" in classes} == {5, 6, 7, 8, 9, 14, 15, 16}
    text = " ".join(page.text)
    assert "0.67" in text and "6×" in text  # the root: 4 of 6


def test_retrieved_theorems_are_shown_with_label_reason_and_probability() -> None:
    page = Page(problem_page(solved(), []))
    labels = [word for word in page.text if word in ("accepted", "rejected", "unparsable", "on the path")]
    assert {label: labels.count(label) for label in set(labels)} == {
        "accepted": 5,
        "rejected": 4,
        "unparsable": 1,
        "on the path": 1,
    }
    assert "because of t10" in page.text and "p1-2-t10" in page.text


def test_a_query_that_was_never_expanded_is_told_from_one_that_found_nothing() -> None:
    tree = RecordBuilder("p", "Q?")
    tree.nodes[tree.query(0, "Name", "Statement", {})]["retrieved"] = None
    tree.query(0, "Other", "Statement", {})
    text = Page(problem_page(tree.record(), [])).text
    assert [said for said in text if said.startswith("Nothing")] == [
        "Nothing was looked for: no rollout went on from here.",
        "Nothing.",
    ]


def test_what_stood_in_for_a_gold_answer_is_shown_with_its_votes() -> None:
    record = RecordBuilder("p", "Q?", answer=None).record()
    assert "no gold answer" in Page(problem_page(record, [])).text
    record["consensus"] = {"answer": "17", "votes": 6, "total": 8, "calls": []}
    text = Page(problem_page(record, [])).text
    assert "agreed by 6 of 8" in text and "17" in text
    agreed = solved() | {"answer": None, "consensus": {"answer": "4", "votes": 6, "total": 8, "calls": []}}
    for of, said in ((solved(), "right"), (agreed, "as agreed")):
        page = Page(problem_page(of, []))
        judged = {text.partition(",")[0] for text in page.text if text.endswith(", literal")}
        assert judged == {said, f"not {said}" if said == "as agreed" else "wrong"}
        assert ("solved" in page.text) == (said == "right") and ("agreed" in page.text) == (said == "as agreed")


def test_a_part_of_a_run_leaves_the_table_of_all_its_problems(tmp_path: Path) -> None:
    page = write_views([solved("a")], tmp_path, is_part=True)
    assert page.parent == tmp_path / "problems" and "a-c0ffee" in page.name
    assert (tmp_path / "index.html").is_file(), "the page links to it"
    whole = write_views([solved("a"), solved("b")], tmp_path).read_text(encoding="utf-8")
    write_views([solved("b")], tmp_path, is_part=True)
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == whole


def test_samples_stand_on_the_page_of_their_problem_and_configuration(tmp_path: Path) -> None:
    record, other = solved("p1"), solved("p1")
    other["configuration"] = "decaf"
    pages = _written(
        tmp_path, [record, other], [_sample(record, 3, "first sample"), _sample(other, 3, "second sample")]
    )
    assert len(pages) == 3
    for path in pages[1:]:
        html = path.read_text(encoding="utf-8")
        assert ("first sample" in html) == ("c0ffee" in path.name)
        assert ("second sample" in html) == ("decaf" in path.name)


@pytest.mark.parametrize("identifier", ["../../etc/passwd", "a/b", "..", "", "CON", "a" * 500, "née", "A", "a\0b"])
def test_file_names_made_of_ids_stay_in_their_folder(identifier: str) -> None:
    name = safe_name(identifier)
    assert name and len(name) < 120 and not set(name) & set("/\\\0:") and not name.startswith(".")
    assert name.isascii() and name == name.lower()


@given(st.text(), st.text())
def test_different_ids_get_different_file_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_no_record_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished problem"):
        write_views([], tmp_path)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
@given(records())
def test_any_record_has_a_well_formed_page_and_a_map_without_collisions(record: dict[str, Any]) -> None:
    Page(problem_page(record, []))
    drawing = layout(record["nodes"])
    assert sorted(drawing.order) == list(range(len(record["nodes"])))
    assert len(set(drawing.points)) == len(drawing.points)
    assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in drawing.points)
