"""An indexing run that is killed without warning, again and again, ends as one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyterrier_radar import RadarIndex
from tests.pyterrier_radar.test_index import content

DOCUMENTS, WINDOW, KILLS = 1_500, 32, 20

# One process imports everything and loads the model; every indexing run is a fork of it. With one thread, since
# a fork does not inherit the others.
_RUNS = f"""
import json, os, signal, sys, time
import torch
from pyterrier_radar import RadarIndex, _indexer
from tests.pyterrier_radar.test_index import collection
from torch_radar.encoder import Encoder
torch.set_num_threads(1)
_indexer.WINDOW = {WINDOW}
encoder = Encoder(sys.argv[1])
encoder.model.loaded
for line in sys.stdin:
    path, seconds = json.loads(line)
    child = os.fork()
    if child == 0:
        RadarIndex(path, encoder).index(collection({DOCUMENTS}))
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
def test_twenty_kills_at_random_moments_leave_the_bytes_of_an_uninterrupted_run(tmp_path, tiny_qwen2):
    moments = random.Random(20)
    kills, finished, sizes = 0, 0, set()
    runs = subprocess.Popen(
        [sys.executable, "-c", _RUNS, tiny_qwen2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=Path(__file__).parents[2],
    )

    def run(path, seconds=None):
        """Indexes, for so many seconds if given, and returns the exit status."""
        runs.stdin.write(json.dumps([str(path), seconds]) + "\n")
        return int(runs.stdout.readline())

    with runs:
        assert run(tmp_path / "whole") == 0
        whole = content(tmp_path / "whole")
        while kills < KILLS or not finished:
            path = tmp_path / f"killed-{finished}"
            status = run(path, moments.uniform(0.02, 0.3) if kills < KILLS else None)
            assert status in (0, -signal.SIGKILL)
            sizes.add(len(RadarIndex(path)))
            if status == 0:
                assert content(path) == whole
                finished += 1
            else:
                kills += 1
        runs.stdin.close()
    print(f"{kills} kills, {finished} indexes finished, sizes met: {sorted(sizes)}")
    assert len(sizes) > 3, "the kills never fell between shards"
