"""Importing this room, and the command that holds its subcommands, imports neither mteb nor torch."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["mteb_radar", "mteb_radar.commands"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    program = (
        f"import sys, {module}; print(sorted({{'mteb', 'torch', 'transformers', 'datasets'}} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_every_name_in_the_window_is_there() -> None:
    import mteb_radar

    for name in mteb_radar.__all__:
        assert getattr(mteb_radar, name).__name__ == name


def test_a_missing_mteb_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import mteb_radar

    monkeypatch.setattr(mteb_radar, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pyterrier-radar\[mteb\]'"):
        mteb_radar.require_mteb()
