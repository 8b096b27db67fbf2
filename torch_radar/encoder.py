"""Texts to unit vectors, in any batch composition the same as one text at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sized
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from torch_radar.batching import (
    default_batch_tokens,
    default_threads,
    pad_right,
    prepare_ahead,
    run_batches,
    to_device,
    windows,
)
from torch_radar.checkpoints import Checkpoint, CheckpointError, resolve
from torch_radar.loaded import LoadedModel
from torch_radar.loading import LazyModel
from torch_radar.templates import TextTemplate, frame_texts, framing, text_template

logger = logging.getLogger(__name__)

WINDOW = 4096


class TextError(ValueError):
    """A text that cannot be encoded; ``position`` is its place in the input, counted from 0."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"text {position}: {problem}")
        self.position = position
        self.problem = problem


def require_text(position: int, text: object) -> str:
    """Returns the text if it is a string.

    Raises:
        TextError: If it is None, NaN, or anything else.
    """
    if isinstance(text, str):
        return text
    missing = text is None or text != text
    problem = f"is missing ({text!r})" if missing else f"is a {type(text).__name__}, not a string"
    raise TextError(position, problem + ": fill it in or drop the record")


def require_texts(texts: Iterable[str]) -> Iterator[str]:
    """Passes texts on, each checked by :func:`require_text`.

    Raises:
        TextError: If a text is not a string.
        ValueError: If ``texts`` is one string: its characters would be taken for texts.
    """
    if isinstance(texts, str):
        raise ValueError(f"give a list of texts, not the one text {texts[:40]!r}")
    return (require_text(position, text) for position, text in enumerate(texts))


class Encoder:
    """A retriever checkpoint: queries and documents to float32 unit vectors (RaDeR §5).

    The name is resolved and checked at once; weights are loaded when something is first encoded.

    Args:
        checkpoint: A released checkpoint, a local folder, a :class:`Checkpoint`; ``None`` is the small default.
        instruction: Put after the query prefix, before the query's text
            (see :func:`torch_radar.instructions.bright_instruction`).
        template: A template's name or a template, instead of the checkpoint's own.
        max_query_tokens: The most tokens of a query, template included; ``None`` is the checkpoint's limit.
        max_document_tokens: The same for a document.
        device: See :class:`torch_radar.loading.LazyModel`.
        dtype: See :class:`torch_radar.loading.LazyModel`.
        attention: See :class:`torch_radar.loading.LazyModel`.
        batch_tokens: Padded tokens of a batch; ``None`` suits the device. It changes speed and memory alone.
        progress: Whether to show a progress bar.
        loaded: See :class:`torch_radar.loading.LazyModel`.

    Raises:
        CheckpointError: If the checkpoint is unknown or is a reranker.
        ValueError: If the template, device or dtype is unknown.
    """

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint | None = None,
        *,
        instruction: str = "",
        template: str | TextTemplate | None = None,
        max_query_tokens: int | None = None,
        max_document_tokens: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        batch_tokens: int | None = None,
        progress: bool = False,
        loaded: LoadedModel | None = None,
    ) -> None:
        self.checkpoint = resolve(checkpoint)
        if self.checkpoint.kind != "retriever":
            raise CheckpointError(f"{self.checkpoint.name} is a {self.checkpoint.kind}, and a retriever is needed here")
        self.instruction = instruction
        self.template = text_template(self.checkpoint.template if template is None else template)  # type: ignore[arg-type]
        if self.checkpoint.pooling == "last_token" and not self.template.ends_with_eos:
            raise ValueError(
                f"{self.checkpoint.name} pools at EOS, and the template {self.template.name!r} ends without one: "
                "choose another template"
            )
        limit = self.checkpoint.max_tokens
        self.max_query_tokens = limit if max_query_tokens is None else max_query_tokens
        self.max_document_tokens = limit if max_document_tokens is None else max_document_tokens
        self.model = LazyModel(self.checkpoint, device=device, dtype=dtype, attention=attention, loaded=loaded)
        self.batch_tokens = batch_tokens or default_batch_tokens(self.device)
        self.progress = progress
        if checkpoint is None:
            logger.warning(
                "no checkpoint named: using the small default %s (22M parameters, for laptops); name a Raderspace/… "
                "checkpoint for what the paper measured",
                self.checkpoint.name,
            )

    def with_instruction(self, instruction: str) -> Encoder:
        """Returns an encoder with another instruction that shares this one's weights, loaded or not."""
        other = copy(self)
        other.instruction = instruction
        return other

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of weights and activations; vectors are float32 whatever it is."""
        return self.model.dtype

    @property
    def dimension(self) -> int:
        """Size of a vector."""
        return self.model.loaded.dimension

    def settings(self) -> dict[str, Any]:
        """Everything that changes a vector, known without loading weights: equal settings, equal vectors."""
        return (
            self.model.settings()
            | self._document_form()
            | {
                "query_prefix": self.template.query_prefix,
                "instruction": self.instruction,
                "max_query_tokens": self.max_query_tokens,
            }
        )

    def document_settings(self) -> dict[str, Any]:
        """What a store of document vectors depends on, with a digest of the weights instead of their path."""
        return self._document_form() | {"weights": self.model.weights_digest()}

    def _document_form(self) -> dict[str, Any]:
        return {
            "pooling": self.checkpoint.pooling,
            "document_prefix": self.template.document_prefix,
            "ends_with_eos": self.template.ends_with_eos,
            "max_document_tokens": self.max_document_tokens,
        }

    def encode_queries(self, texts: Iterable[str]) -> np.ndarray:
        """Encodes queries in the checkpoint's query form, instruction included.

        Args:
            texts: n strings; the empty string is one.

        Returns:
            float32 (n, dimension), unit rows in input order.

        Raises:
            TextError: If a text is not a string.
        """
        strings = (self.template.query(text, self.instruction) for text in require_texts(texts))
        return self._encode_all(strings, self.max_query_tokens, _length(texts), "queries")

    def encode_documents(self, texts: Iterable[str]) -> np.ndarray:
        """Encodes documents in the checkpoint's document form.

        Args:
            texts: n strings; the empty string is one.

        Returns:
            float32 (n, dimension), unit rows in input order.

        Raises:
            TextError: If a text is not a string.
        """
        strings = (self.template.document(text) for text in require_texts(texts))
        return self._encode_all(strings, self.max_document_tokens, _length(texts), "documents")

    def iter_documents(self, texts: Iterable[str], *, window: int = WINDOW) -> Iterator[np.ndarray]:
        """Encodes a stream of documents with bounded memory.

        Each window is sorted into batches by itself, so the same window always gives the same rows; while one is
        computed the next one is tokenised.

        Args:
            texts: Any iterable of strings, drawn one window ahead.
            window: Documents in a window.

        Yields:
            float32 (window, dimension) unit rows in input order, the last one shorter.
        """
        strings = (self.template.document(text) for text in require_texts(texts))
        yield from self._encode_windows(strings, self.max_document_tokens, window, _length(texts), "documents")

    def _encode_all(self, strings: Iterable[str], max_tokens: int, total: int | None, unit: str) -> np.ndarray:
        blocks = list(self._encode_windows(strings, max_tokens, WINDOW, total, unit))
        return np.concatenate(blocks) if blocks else np.empty((0, self.dimension), dtype=np.float32)

    def _encode_windows(
        self, strings: Iterable[str], max_tokens: int, window: int, total: int | None, unit: str
    ) -> Iterator[np.ndarray]:
        tokenizer = self.model.loaded.tokenizer
        frame = framing(tokenizer, ends_with_eos=self.template.ends_with_eos)
        shortest = len(frame) + 1
        if max_tokens < shortest:
            raise ValueError(f"a limit of {max_tokens} tokens leaves no room for any text: use {shortest} or more")
        longest = self.model.loaded.max_positions
        if max_tokens > longest:
            raise ValueError(
                f"{self.checkpoint.name} reads {longest} tokens at most, not {max_tokens}: lower the limit"
            )
        tokenised = prepare_ahead(
            windows(strings, window), lambda texts: frame_texts(tokenizer, texts, frame, max_tokens)
        )
        with tqdm(total=total, desc="encoding", unit=f" {unit}", disable=not self.progress, leave=False) as bar:
            for sequences in tokenised:
                yield self._encode_window(sequences, bar)

    @torch.inference_mode()
    def _encode_window(self, sequences: list[list[int]], bar: tqdm) -> np.ndarray:
        lengths = np.array([len(s) for s in sequences])
        vectors = torch.empty((len(sequences), self.dimension), dtype=torch.float32, device=self.device)

        def forward(rows: np.ndarray) -> None:
            places = to_device(torch.from_numpy(rows), self.device)
            ids, row_lengths = pad_right([sequences[row] for row in rows], self.device)
            vectors[places] = self.model.loaded.vectors(ids, row_lengths, self.checkpoint.pooling)
            bar.update(len(rows))

        # Every window begins with the same budget, so that it always meets the same batches.
        run_batches(lengths, self.batch_tokens, forward, threads=default_threads(self.device))
        if not bool(vectors.isfinite().all()):
            raise ValueError(
                f"{self.checkpoint.name} gave vectors that are not finite in {self.dtype}: use another dtype"
            )
        return vectors.cpu().numpy()


def _length(texts: Iterable[str]) -> int | None:
    return len(texts) if isinstance(texts, Sized) else None
