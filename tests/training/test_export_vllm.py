"""vLLM serves an exported folder with torch_radar's numbers; ``tests/vllm.py`` says what that needs."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from tests.training.test_export import LIMIT, base, reranker, retriever, runs  # noqa: F401 (fixtures)
from tests.vllm import MODEL, needs_vllm, server
from torch_radar import Encoder, Reranker
from torch_radar.checkpoints import load_radar_json
from training.export.agreement import TEXTS, pair_halves

POOLING = ("--runner", "pooling", "--max-model-len", str(LIMIT))

pytestmark = needs_vllm


def post(address: str, record: dict[str, Any]) -> Any:
    body = json.dumps({"model": MODEL} | record).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_embeddings_of_vllm_are_those_of_torch_radar(retriever: Path, tmp_path: Path) -> None:  # noqa: F811
    form = load_radar_json(retriever).template
    long = "subgroup " * 500
    strings = [form.query(text) for text in TEXTS] + [form.document(text) for text in (*TEXTS, long)]
    with server(retriever, tmp_path / "vllm.log", *POOLING) as address:
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
    with server(reranker, tmp_path / "vllm.log", *POOLING) as address:
        data = post(f"{address}/score", {"text_1": [q for q, _ in halves], "text_2": [d for _, d in halves]})["data"]
        whole = [form.head(query) + document + form.after_document for query, document in pairs]
        classified = post(f"{address}/classify", {"input": whole})["data"]
    scores = np.array([row["score"] for row in data])
    ours = Reranker(reranker, device="cpu").score(pairs)
    print(f"vLLM: largest difference of a logit {np.abs(scores - ours).max():.2g} of {np.abs(ours).max():.2g}")
    np.testing.assert_allclose(scores, ours, atol=1e-3)
    np.testing.assert_allclose([row["probs"][0] for row in classified], ours, atol=1e-3)
