"""Peak memory of indexing: 200,000 short documents against 20,000, which should need the same.

    python bench/index_memory.py

Both run through ``RadarIndex`` with a random two-layer retriever, each in a process of its own.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from encode import make_checkpoint
from harness import interleave, report, timed

SIZES = ["20000", "200000"]
WORDS = "every bounded sequence of real numbers has a convergent part and each compact set keeps its limits".split()


def run(size: int, folder: Path) -> None:
    """One run, in a process of its own."""
    from pyterrier_radar import RadarIndex

    path = folder / f"{size}.radar"
    documents = ({"docno": f"d{i}", "text": f"{WORDS[i % 17]} {WORDS[i % 13]} {i}"} for i in range(size))
    seconds, index = timed(lambda: RadarIndex(path, folder / "model").index(documents))
    assert len(index) == size
    shutil.rmtree(path)
    report(seconds=round(seconds, 1))


def main() -> None:
    """Runs the comparison and prints the difference last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--system")
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.system:
        return run(int(options.system), Path(options.folder))
    with tempfile.TemporaryDirectory() as name:
        make_checkpoint(Path(name) / "model", WORDS, layers=2, hidden=64, mlp=4)
        medians = interleave(__file__, SIZES, options.rounds, ["--folder", name])
    few, many = (medians[size]["peak_mib"] for size in SIZES)
    print(f"peak_mib: {SIZES[1]} documents − {SIZES[0]} documents = {many - few:.0f}")


if __name__ == "__main__":
    main()
