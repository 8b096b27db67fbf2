"""What a newcomer types first: help and doctor."""

import json
import subprocess
import sys

from tests.pyterrier_radar.commands.cli import succeeds


def test_help_lists_every_command_without_loading_what_they_need() -> None:
    script = (
        "import sys, radar_cli\n"
        "try: radar_cli.main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'pandas', 'pyterrier', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("demo", "index", "search", "rerank", "evaluate", "doctor"))
    assert done.stdout.rstrip().endswith("[]")


def test_doctor_finds_the_core_working_and_says_how_to_get_what_is_missing() -> None:
    report = json.loads(succeeds("doctor", "--json").stdout)
    assert report["core"] == "works"
    assert report["versions"]["pyterrier"]
    assert report["devices"][0]["device"] == "cpu"
    assert set(report["extras"]) >= {"faiss", "mteb", "training"}
    for extra, state in report["extras"].items():
        assert state["install"] == (f"pip install 'pyterrier-radar[{extra}]'" if state["missing"] else None)
