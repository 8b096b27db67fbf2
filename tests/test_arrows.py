"""The arrows of the house: which room may import which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "torch_radar",
    "pyterrier_radar",
    "mteb_radar",
    "pyserini_radar",
    "radar_answers",
    "radar_bm25",
    "radar_llm",
    "synthesis",
    "training",
    "radar_cli",
}
MAY_IMPORT = {
    "torch_radar": set(),
    "pyterrier_radar": {"torch_radar", "radar_answers", "radar_bm25", "radar_llm", "radar_cli"},
    "mteb_radar": {"torch_radar", "radar_cli"},
    "pyserini_radar": {"torch_radar", "radar_bm25", "radar_cli"},
    "synthesis": {"torch_radar", "radar_answers", "radar_bm25", "radar_llm", "radar_cli"},
    "training": {"torch_radar", "radar_cli"},
    "radar_answers": set(),
    "radar_bm25": set(),
    "radar_llm": set(),
    "radar_cli": set(),
}
FRAMEWORKS = {"pyterrier", "pyterrier_dr", "pyterrier_pisa", "mteb", "ir_datasets", "ir_measures", "pyserini"}


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def _files(room: str) -> list[Path]:
    single = ROOT / f"{room}.py"
    return [single] if single.is_file() else sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", [r for r in sorted(ROOMS) if _files(r)])
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    for path in _files(room):
        strangers = _imports(path) & ROOMS - MAY_IMPORT[room] - {room}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_the_core_imports_no_ir_framework_outside_its_exports() -> None:
    for path in _files("torch_radar"):
        strangers = _imports(path) & FRAMEWORKS
        assert not strangers, f"{path.name} imports {strangers}"
