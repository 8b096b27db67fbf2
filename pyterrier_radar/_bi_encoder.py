"""RaDeR retrievers as a bi-encoder of pyterrier-dr."""

from collections.abc import Callable, Hashable, Iterable
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pyterrier as pt
import torch
from pyterrier_dr import BiDocEncoder, BiEncoder, BiQueryEncoder, BiScorer, SimFn
from tqdm import tqdm

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import Encoder, require_texts
from torch_radar.templates import TextTemplate

# An indexing pipeline hands over this many documents at once (it reads the `batch_size` of its stages); the
# encoder sorts them by length and cuts batches by token budget, so more documents mean less padding.
_WINDOW = 4096

# The column of a frame without rows, for which no model is loaded.
_NO_VECTORS = pd.Series(dtype="object")


class RadarBiEncoder(EqualBySettings, BiEncoder):
    """Encodes queries and documents into unit vectors; their dot product is the cosine.

    It is a ``pyterrier_dr.BiEncoder`` and works wherever one does, for instance in front of a
    ``pyterrier_dr.FlexIndex``. :class:`RadarIndex` stores less and resumes where an indexing run was stopped.

    ::

        encoder = RadarBiEncoder("Raderspace/RaDeR_Qwen25-7B_NuminaMath_MATH_allquerytypes")
        bm25 % 100 >> encoder.text_scorer()

    Weights are loaded when something is first encoded; an unknown name is refused at once. Equal queries and equal
    documents are encoded once. Gradients aren't kept. The transformers made here are equal only if every
    setting that changes a vector is, so that ``pt.Experiment(plan="tree")`` merges no two that differ.

    .. cite.dblp:: journals/corr/abs-2505-18405
    """

    def __init__(
        self,
        model: str | Path | Checkpoint | None = None,
        *,
        instruction: str | None = None,
        template: str | TextTemplate | None = None,
        max_query_tokens: int | None = None,
        max_document_tokens: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ):
        """Names a checkpoint and how to run it.

        Args:
            model: a released checkpoint, a local folder with its ``radar.json``, or a Checkpoint; where None, a small
                one (radar-mini, 22M parameters) that runs without a GPU, with a warning that says so.
            instruction: put inside the query prefix, such as ``bright_instruction("biology")``.
            template: text form, in place of the checkpoint's own.
            max_query_tokens: longest query, in tokens with prefix and end; the checkpoint's own where None.
            max_document_tokens: the same for documents.
            device: ``"cuda"``, ``"cpu"`` …; the best one present where None.
            dtype: ``"float32"``, ``"bfloat16"`` …; the device's usual one where None.
            batch_tokens: token budget of a batch; it changes speed and memory, not the vectors.
            text_field: column that holds the text of documents.
            verbose: whether to show progress.

        Raises:
            ValueError: The checkpoint, template, device or dtype is unknown; the message lists what is known.
        """
        super().__init__(batch_size=_WINDOW, text_field=text_field, verbose=verbose)
        self.model = model
        self.instruction = instruction
        self.template = template
        self.max_query_tokens = max_query_tokens
        self.max_document_tokens = max_document_tokens
        self.device = device
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.encoder = Encoder(
            model,
            instruction=instruction or "",
            template=template,
            max_query_tokens=max_query_tokens,
            max_document_tokens=max_document_tokens,
            device=device,
            dtype=dtype,
            batch_tokens=batch_tokens,
            progress=verbose,
        )

    def with_instruction(self, instruction: str) -> "RadarBiEncoder":
        """The same model with another instruction; weights are shared, so twelve splits need one model in memory."""
        other = copy(self)
        other.instruction = instruction
        other.encoder = self.encoder.with_instruction(instruction)
        return other

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes queries or documents, or scores documents, by the columns of the frame."""
        with pt.validate.any(inp, context=self) as v:
            v.query_frame(["query"], mode="query_encoder")
            v.document_frame([self.text_field], mode="doc_encoder")
            for columns in _scorer_inputs(self.text_field):
                v.columns(includes=columns, mode="text_scorer")
            v.columns(includes=["query"], mode="query_encoder")
            v.columns(includes=[self.text_field], mode="doc_encoder")
        return getattr(self, v.mode)()(inp)

    def query_encoder(self, verbose: bool | None = None, batch_size: int | None = None) -> "RadarQueryEncoder":
        """A transformer that adds ``query_vec`` (float32, unit length) to frames with ``query``."""
        return RadarQueryEncoder(self, verbose=verbose, batch_size=batch_size)

    def doc_encoder(self, verbose: bool | None = None, batch_size: int | None = None) -> "RadarDocEncoder":
        """A transformer that adds ``doc_vec`` (float32, unit length) to frames with the text field."""
        return RadarDocEncoder(self, verbose=verbose, batch_size=batch_size)

    def text_scorer(
        self, verbose: bool | None = None, batch_size: int | None = None, sim_fn: SimFn | None = None
    ) -> "RadarTextScorer":
        """A transformer that scores the documents of a result frame, from their text or ``doc_vec``.

        Raises:
            ValueError: ``sim_fn`` isn't the dot product.
        """
        if sim_fn not in (None, SimFn.dot):
            raise ValueError("RaDeR vectors have unit length: their dot product is the cosine; leave sim_fn out")
        return RadarTextScorer(self, verbose=verbose, batch_size=batch_size)

    def encode_queries(self, texts: Iterable[str], batch_size: int | None = None) -> np.ndarray:
        """Encodes query texts with the instruction, each distinct one once.

        Args:
            texts: any iterable of n strings.
            batch_size: ignored; batches are cut by token budget.

        Returns:
            float32 (n, dimension), unit rows.

        Raises:
            ValueError: A text isn't a string; the message names its position.
        """
        return _encode_distinct(self.encoder.encode_queries, texts)

    def encode_docs(self, texts: Iterable[str], batch_size: int | None = None) -> np.ndarray:
        """Encodes document texts; arguments, result and errors as for :meth:`encode_queries`."""
        return _encode_distinct(self.encoder.encode_documents, texts)

    def encode_queries_torch(self, texts: Iterable[str], batch_size: int | None = None) -> torch.Tensor:
        """The vectors of :meth:`encode_queries` as a tensor on the CPU, without gradients."""
        return torch.from_numpy(self.encode_queries(texts))

    @staticmethod
    def example() -> "RadarBiEncoder":
        """The small default model, which needs no download."""
        return RadarBiEncoder()

    def __repr__(self) -> str:
        instruction = f", instruction={self.instruction!r}" if self.instruction else ""
        return f"RadarBiEncoder({self.encoder.checkpoint.name!r}{instruction})"

    def _settings_key(self) -> Hashable:
        return (frozenset(self.encoder.settings().items()), self.text_field)


class RadarQueryEncoder(EqualBySettings, BiQueryEncoder):
    """Adds ``query_vec``; made by :meth:`RadarBiEncoder.query_encoder`."""

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes the distinct queries of the frame."""
        with pt.validate.any(inp, context=self) as v:
            v.query_frame(["query"])
            v.columns(includes=["query"])
        queries = _frames.queries(inp)
        return inp.assign(query_vec=list(self.encode(queries)) if queries else _NO_VECTORS)

    def encode(self, texts: Iterable[str], batch_size: int | None = None) -> np.ndarray:
        """As :meth:`RadarBiEncoder.encode_queries`, with this transformer's progress bar."""
        self.bi_encoder_model.encoder.progress = self.verbose
        return self.bi_encoder_model.encode_queries(texts)

    def _settings_key(self) -> Hashable:
        return self.bi_encoder_model._settings_key()


class RadarDocEncoder(EqualBySettings, BiDocEncoder):
    """Adds ``doc_vec``; made by :meth:`RadarBiEncoder.doc_encoder`."""

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Encodes the distinct documents of the frame; an empty text is one too."""
        with pt.validate.any(inp, context=self) as v:
            v.document_frame([self.text_field])
            v.columns(includes=[self.text_field])
        texts = _frames.texts(inp, self.text_field, "docno")
        return inp.assign(doc_vec=list(self.encode(texts)) if texts else _NO_VECTORS)

    def encode(self, texts: Iterable[str], batch_size: int | None = None) -> np.ndarray:
        """As :meth:`RadarBiEncoder.encode_docs`, with this transformer's progress bar."""
        self.bi_encoder_model.encoder.progress = self.verbose
        return self.bi_encoder_model.encode_docs(texts)

    def _settings_key(self) -> Hashable:
        return (self.bi_encoder_model._settings_key(), self.text_field)


class RadarTextScorer(EqualBySettings, BiScorer):
    """Scores documents by cosine; made by :meth:`RadarBiEncoder.text_scorer`."""

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Sets ``score`` and ``rank``, from ``query_vec`` and ``doc_vec`` where the frame has them."""
        with pt.validate.any(inp, context=self) as v:
            for columns in _scorer_inputs(self.text_field):
                v.columns(includes=columns)
        if not len(inp):
            return pt.model.add_ranks(inp.assign(score=pd.Series(dtype="float64")))
        model = self.bi_encoder_model
        queries = inp if "query_vec" in inp.columns else model.query_encoder(verbose=self.verbose)(inp)
        docs = inp if "doc_vec" in inp.columns else model.doc_encoder(verbose=self.verbose)(inp)
        query_vecs = _frames.vectors(queries, "query_vec", "qid")
        doc_vecs = _frames.vectors(docs, "doc_vec", "docno", dimension=len(query_vecs[0]))
        scores = [float(np.dot(query, doc)) for query, doc in zip(query_vecs, doc_vecs, strict=True)]
        return pt.model.add_ranks(inp.assign(score=scores))

    def _settings_key(self) -> Hashable:
        return (self.bi_encoder_model._settings_key(), self.text_field)


def _scorer_inputs(text_field: str) -> list[list[str]]:
    queries, documents = ("query", "query_vec"), (text_field, "doc_vec")
    return [["qid", query, document] for query in queries for document in documents]


def _encode_distinct(encode: Callable[[list[str]], np.ndarray], texts: Iterable[str]) -> np.ndarray:
    if isinstance(texts, tqdm):
        # pyterrier-dr wraps texts in a progress bar; the encoder has one that shows real progress.
        texts.close()
        texts = texts.iterable
    once, rows = _frames.distinct(require_texts(texts))
    encoded = encode(once)
    return encoded if len(once) == len(rows) else encoded[rows]
