"""Windows of documents to vectors, on one device in this process or on several, one process each."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from torch_radar.encoder import Encoder

_encoder: Encoder | None = None  # of a worker process


def encode_windows(
    encoder: Encoder, windows: Iterable[list[str]], devices: Sequence[str] = ()
) -> Generator[np.ndarray, None, None]:
    """Encodes windows of documents, in order.

    A window meets the same batches on any number of devices, so the vectors don't depend on how many there are.

    Args:
        encoder: The model; with several devices every process loads it again.
        windows: Lists of texts.
        devices: Names such as cuda:0 and cuda:1; with none or one, this process encodes on the encoder's device.

    Yields:
        float32 (window, dimension) unit rows.
    """
    if len(devices) < 2:
        for texts in windows:
            yield encoder.encode_documents(texts)
        return
    settings = {
        "checkpoint": encoder.checkpoint,
        "template": encoder.template,
        "max_document_tokens": encoder.max_document_tokens,
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "attention": encoder.model.attention,
        "batch_tokens": encoder.batch_tokens,
    }
    context = get_context("spawn")  # CUDA does not survive a fork
    workers = [
        ProcessPoolExecutor(1, mp_context=context, initializer=_load, initargs=(settings, device)) for device in devices
    ]
    waiting: deque[Future[np.ndarray]] = deque()
    try:
        for number, texts in enumerate(windows):
            waiting.append(workers[number % len(workers)].submit(_encode, texts))
            if len(waiting) > 2 * len(workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for worker in workers:
            worker.shutdown(wait=False, cancel_futures=True)  # after an error, windows are waiting
        for worker in workers:
            worker.shutdown()


def _load(settings: dict[str, Any], device: str) -> None:
    global _encoder
    _encoder = Encoder(**settings, device=device)


def _encode(texts: list[str]) -> np.ndarray:
    if _encoder is None:
        raise RuntimeError("the worker has no model")
    return _encoder.encode_documents(texts)
