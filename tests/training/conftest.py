"""Bases and data of the smallest size that still trains."""

from pathlib import Path

import pytest
import torch

from tests.models import save_qwen_retriever
from tests.training.runs import write_data


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Qwen2 as the hub serves it; a reranker begins from it with a new head."""
    return save_qwen_retriever(tmp_path_factory.mktemp("base"), hidden=32)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen examples, and a collection to evaluate on."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Models this small gain nothing from threads, and lose a lot where the cores are busy."""
    torch.set_num_threads(1)
