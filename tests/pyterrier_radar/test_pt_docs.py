"""The documentation pages name things that exist, and their schematics can be drawn."""

import re
from pathlib import Path
from textwrap import dedent

import pyterrier as pt
import pytest

import pyterrier_radar

PAGES = sorted((Path(pyterrier_radar.__file__).parent / "pt_docs").glob("*.rst"))
SCHEMATIC = re.compile(r"\.\. schematic::\n    :show_code:\n\n((?:    .*\n|\n)+)")


def resolve(name):
    thing = pyterrier_radar
    for part in name.split("."):
        thing = getattr(thing, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_package_on_a_page_exists(page):
    text = page.read_text("utf-8")
    for name in re.findall(r"(?<![\w.])pyterrier_radar\.([\w.]*\w)", text):
        resolve(name)
    for name, members in re.findall(r"autoclass:: pyterrier_radar\.(\w+)\n +:members: (\S.*)", text):
        for member in members.split(", "):
            resolve(f"{name}.{member}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_schematic_of_a_page_can_be_drawn(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in SCHEMATIC.findall(page.read_text("utf-8")):
        *setup, pipeline = [line for line in dedent(code).splitlines() if line and not line.startswith("#")]
        names = {"pt": pt}
        exec("\n".join(setup), names)
        assert "Error" not in pt.schematic.draw(eval(pipeline, names))


def test_every_page_is_reachable_and_every_public_name_documented():
    index = (PAGES[0].parent / "index.rst").read_text("utf-8")
    assert {page.stem for page in PAGES} - {"index"} == set(re.findall(r"<([\w-]+)>$", index, re.MULTILINE))
    api = (PAGES[0].parent / "api.rst").read_text("utf-8")
    assert set(pyterrier_radar.__all__) <= set(re.findall(r"auto\w+:: pyterrier_radar\.(\w+)", api))
