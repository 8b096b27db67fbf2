"""Ratings by a real vLLM server: constrained to the six digits, with their probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyterrier_radar import RatingReranker, ReasoningQuery
from tests.models import save_qwen_chat
from tests.vllm import MODEL, needs_vllm, server

pytestmark = needs_vllm


def test_expected_ratings_and_rewritten_queries_of_a_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("chat")
    model = save_qwen_chat(Path(folder) / "model")
    results = pd.DataFrame(
        {
            "qid": ["q1", "q1", "q2"],
            "query": ["why do primes never end", "why do primes never end", "what is a ring"],
            "docno": ["d1", "d2", "d1"],
            "text": ["A finite list of primes misses one.", "Sums commute.", "A finite list of primes misses one."],
            "score": [2.0, 1.0, 1.0],
            "rank": [0, 1, 0],
        }
    )
    with server(model, Path(folder) / "vllm.log", "--max-num-seqs", "4", "--max-model-len", "4096") as address:
        rater = RatingReranker(MODEL, url=f"{address}/v1", expected=True, cache=Path(folder) / "answers.sqlite")
        rated = rater(results)
        assert set(rated["rating_status"]) == {"rated"}
        # the mean of six digits under random weights: no digit itself
        assert rated["rating"].between(0, 5).all() and not np.allclose(rated["rating"], rated["rating"].round())
        np.testing.assert_allclose(rated["score"], rated["rating"] / 5)
        again = RatingReranker(MODEL, url=f"{address}/v1", expected=True, cache=Path(folder) / "answers.sqlite")
        pd.testing.assert_frame_equal(again(results), rated)
        assert (again.usage.calls, rater.usage.calls) == (0, 3)
        rewritten = ReasoningQuery(MODEL, url=f"{address}/v1")(results[["qid", "query"]].drop_duplicates())
        assert list(rewritten["query_0"]) == ["why do primes never end", "what is a ring"]
