"""Fixtures shared by all rooms: tiny checkpoints, made once a session, and a world without a network."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

from tests.models import save_qwen_reranker, save_qwen_retriever
from torch_radar.checkpoints import Checkpoint, save_radar_json
from torch_radar.templates import QUERY_DOCUMENT, RECOVERED_PAIR


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random 2-layer Qwen2 retriever with its own tokenizer and radar.json."""
    folder = save_qwen_retriever(tmp_path_factory.mktemp("tiny-retriever"))
    save_radar_json(folder, Checkpoint(str(folder), "retriever", QUERY_DOCUMENT, "last_token", max_tokens=8192))
    return folder


@pytest.fixture(scope="session")
def tiny_qwen2_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random one-label Qwen2 sequence classifier with its own tokenizer and radar.json."""
    folder = save_qwen_reranker(tmp_path_factory.mktemp("tiny-reranker"))
    save_radar_json(folder, Checkpoint(str(folder), "reranker", RECOVERED_PAIR, "last_token", max_tokens=4096))
    return folder


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Has SIGINT raise KeyboardInterrupt; a process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
