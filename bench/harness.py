"""Interleaved runs in fresh processes: what every benchmark here shares.

Machines are noisy, so a figure is the ratio of two systems run in turn (A B A B …) in the same session, each run a
process of its own that reports its seconds and its peak memory.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any


def report(**figures: Any) -> None:
    """Called once by a run's process: prints its figures, with its peak resident memory, as one JSON line."""
    # Not getrusage: its peak of a child begins with what the parent held.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print("FIGURES " + json.dumps(figures | {"peak_mib": int(peak) // 1024}))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the seconds a call took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def interleave(script: str, systems: list[str], rounds: int, arguments: list[str]) -> dict[str, dict[str, float]]:
    """Runs ``script --system NAME`` for every system in turn, ``rounds`` times, and prints each run.

    Returns:
        Per system, the median of every figure.
    """
    runs: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    for number in range(rounds):
        for system in systems:
            command = [sys.executable, script, "--system", system, *arguments]
            result = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in result.stdout.splitlines() if line.startswith("FIGURES ")]
            if result.returncode or not lines:
                sys.exit(f"{system} failed:\n{result.stdout}\n{result.stderr}")
            figures = json.loads(lines[-1].removeprefix("FIGURES "))
            runs[system].append(figures)
            print(f"round {number + 1} {system:>24}: {figures}", flush=True)
    return {s: {key: median(run[key] for run in done) for key in done[0]} for s, done in runs.items()}


def read_texts(paths: list[str], limit: int) -> list[str]:
    """Returns texts of JSONL files (``text`` fields), an equal share of each, spread over the whole file."""
    texts: list[str] = []
    for path in paths:
        found = [record["text"] for record in _records(Path(path)) if record["text"].strip()]
        share = limit // len(paths)
        step = max(1, len(found) // share)
        texts += found[::step][:share]
    return texts


def _records(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
