"""Encoders in the shape that Pyserini calls: documents in batches, one query at a time.

They don't derive from Pyserini's classes: importing those starts a JVM, and nothing there asks for them. Text form,
pooling and normalisation are the checkpoint's.
"""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder

Model = str | Path | Checkpoint | Encoder | None


class RadarDocumentEncoder:
    """Encodes documents as ``pyserini.encode.DocumentEncoder`` does."""

    has_model = True

    def __init__(
        self,
        model_name: Model = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
    ) -> None:
        """Opens a checkpoint; weights are loaded at the first text.

        Args:
            model_name: a released checkpoint, a local folder, an :class:`torch_radar.Encoder` to share; the small
                default where None.
            device: where it runs; the best device here where None. An encoder that is shared has its own.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; what suits the device where None. Likewise.
            max_length: tokens of a document at most, template included; the checkpoint's limit where None.

        Raises:
            CheckpointError: The checkpoint is unknown or is a reranker.
            ValueError: The device or dtype is unknown.
        """
        self.encoder = _opened(model_name, device, dtype)
        if max_length is not None:
            self.encoder.max_document_tokens = max_length

    @property
    def dimension(self) -> int:
        """Size of a vector."""
        return self.encoder.dimension

    def encode(
        self,
        texts: Sequence[str | None],
        titles: Sequence[str | None] | None = None,
        *,
        fp16: bool = False,
        max_length: int | None = None,
        add_sep: bool = False,
    ) -> np.ndarray:
        """Encodes documents, sorted by length into batches of so many tokens.

        Args:
            texts: n texts; None, which Pyserini makes of an empty field, is the empty text.
            titles: n titles to put in front of them.
            fp16: only to be given where the encoder was opened with ``dtype="float16"``.
            max_length: tokens at most, for this call.
            add_sep: not to be given: these models know no separator.

        Returns:
            float32 (n, dimension), unit rows in input order.

        Raises:
            ValueError: An option contradicts the checkpoint, or titles and texts differ in number.
            TextError: A text is not a string.
        """
        _require_precision(self.encoder, fp16)
        if add_sep:
            raise ValueError("add_sep joins title and text for models with a separator: leave it out")
        if titles is not None:
            pairs = zip(titles, texts, strict=True)
            texts = [" ".join(part for part in (title, text) if part) for title, text in pairs]
        encoder = self.encoder
        if max_length is not None:
            encoder = copy(encoder)
            encoder.max_document_tokens = max_length
        return encoder.encode_documents(["" if text is None else text for text in texts])


class RadarQueryEncoder:
    """Encodes queries as ``pyserini.encode.QueryEncoder`` does: ``FaissSearcher(folder, RadarQueryEncoder(…))``."""

    has_model = True

    def __init__(
        self,
        encoder_dir: Model = None,
        *,
        instruction: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_length: int | None = None,
    ) -> None:
        """Opens a checkpoint; weights are loaded at the first query.

        Args:
            encoder_dir: a released checkpoint, a local folder, an :class:`torch_radar.Encoder` to share (the
                ``encoder`` of a :class:`RadarDocumentEncoder`, say); the small default where None.
            instruction: put inside the query prefix; see :func:`torch_radar.bright_instruction`. Where None, the
                shared encoder's, or nothing.
            device: where it runs; the best device here where None. An encoder that is shared has its own.
            dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; what suits the device where None. Likewise.
            max_length: tokens of a query at most, template included; the checkpoint's limit where None.

        Raises:
            CheckpointError: The checkpoint is unknown or is a reranker.
            ValueError: The device or dtype is unknown.
        """
        self.encoder = _opened(encoder_dir, device, dtype)
        if instruction is not None:
            self.encoder.instruction = instruction
        if max_length is not None:
            self.encoder.max_query_tokens = max_length

    def encode(self, query: str, *, max_length: int | None = None) -> np.ndarray:
        """Encodes one query.

        Args:
            query: its text.
            max_length: tokens at most, for this call.

        Returns:
            float32 (dimension,), a unit vector.

        Raises:
            TextError: The query is not a string.
        """
        encoder = self.encoder
        if max_length is not None:
            encoder = copy(encoder)
            encoder.max_query_tokens = max_length
        return encoder.encode_queries([query])[0]

    def encode_batch(self, queries: Sequence[str]) -> np.ndarray:
        """Encodes n queries together, which Pyserini asks for in ``batch_search``: float32 (n, dimension)."""
        return self.encoder.encode_queries(queries)


def _opened(model: Model, device: str | None, dtype: str | None) -> Encoder:
    """An encoder of one's own, which shares the weights of one that is given."""
    if not isinstance(model, Encoder):
        return Encoder(model, device=device, dtype=dtype)
    if device is not None or dtype is not None:
        raise ValueError("an Encoder brings its own device and dtype: give them where it is made")
    return copy(model)


def _require_precision(encoder: Encoder, fp16: Any) -> None:
    dtype = encoder.settings()["dtype"]
    if fp16 and dtype != "float16":
        raise ValueError(f"the model was opened in {dtype}: open it with dtype='float16' instead of asking for fp16")
