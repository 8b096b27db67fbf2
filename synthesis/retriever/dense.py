"""Theorems ranked by vectors: an encoder in this process, or an embedding endpoint.

Vectors of theorems are kept in a store on disk, window by window, so that a run that was stopped goes on where it
was; it refuses a folder of another encoder or corpus.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from synthesis.retriever.corpus import Corpus, CorpusError, corpus_digest
from synthesis.retriever.port import BatchedTheorems, Hit, QueryError

if TYPE_CHECKING:
    import numpy as np

    from torch_radar import Encoder

_WINDOW = 1024
_TEXTS_OF_A_REQUEST = 64
_RETRIES = 18  # about two minutes, as of the language model's calls: the client waits 8 s at most
_REFUSALS = (400, 413, 422)


class _RefusedError(Exception):
    """A text that an endpoint refuses, and what it said."""

    def __init__(self, text: str, said: str):
        super().__init__(said)
        self.text, self.said = text, said


class VectorTheorems(BatchedTheorems):
    """Theorems by cosine of vectors. Subclasses say how texts become vectors; theorems are encoded when it is made.

    Args:
        corpus: The theorems.
        folder: The store's folder.
        settings: What the vectors of theorems depend on, as plain JSON.
        batch: Most queries that are encoded together. With another composition of a batch the last digits of a score
            may differ; 1 makes runs repeat to the last digit, slower.

    Raises:
        CorpusError: See :class:`BatchedTheorems`.
        StoreMismatchError: If the folder holds vectors of another encoder or corpus; it names what differs.
    """

    def __init__(self, corpus: Corpus, folder: str | Path, settings: Mapping[str, Any], *, batch: int = 64):
        from torch_radar.vectors import VectorStore

        super().__init__(corpus, batch=batch)
        settings = dict(settings) | {"theorems": corpus_digest(self.texts)}
        known = None
        if VectorStore.exists(folder):
            known = VectorStore.open(folder)
            known.require_settings(settings)
        docnos = list(self.texts)
        done = 0 if known is None else len(known)
        with tqdm(total=len(docnos), initial=done, desc="theorems", unit=" texts", disable=done == len(docnos)) as bar:
            while window := list(islice(docnos, done, done + _WINDOW)):
                vectors = self._encode_theorems([self.texts[docno] for docno in window])
                if known is None:
                    known = VectorStore.create(folder, dimension=vectors.shape[1], settings=settings)
                known.append(window, vectors)
                done += len(window)
                bar.update(len(window))
        assert known is not None  # a corpus has theorems
        if not known.is_complete:
            known.complete()
        self._store = known

    @abstractmethod
    def _encode_theorems(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit vectors, float32 (n, d)."""

    @abstractmethod
    def _encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Returns unit vectors, float32 (n, d)."""

    def rank(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See :class:`BatchedTheorems`; scores are cosines, equal ones in the order of the corpus."""
        hits = self._store.search(self._encode_queries(queries), min(k, len(self._store)))
        docnos = iter(self._store.docnos(hits.rows.ravel()))
        return [[Hit(next(docnos), float(score)) for score in scores] for scores in hits.scores]


class EncoderTheorems(VectorTheorems):
    """Theorems by a retriever checkpoint in this process.

    Args:
        corpus: The theorems.
        encoder: What encodes theorems and queries.
        folder: See :class:`VectorTheorems`.
        batch: See :class:`VectorTheorems`.
    """

    def __init__(self, corpus: Corpus, encoder: Encoder, folder: str | Path, *, batch: int = 64):
        self._encoder = encoder
        super().__init__(corpus, folder, encoder.document_settings(), batch=batch)

    def _encode_theorems(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode_documents(texts)

    def _encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoder.encode_queries(texts)


class EndpointTheorems(VectorTheorems):
    """Theorems by an embedding endpoint of the OpenAI protocol, such as vLLM with ``--runner pooling``.

    The endpoint's tokenizer must put EOS after a text where the model pools there; the prefixes are put here.

    Args:
        corpus: The theorems.
        url: The base URL, ``…/v1``.
        model: The model's name there.
        folder: See :class:`VectorTheorems`.
        query_prefix: Put before a query; the default is RaDeR's form.
        theorem_prefix: Put before a theorem.
        api_key: For endpoints that want one.
        timeout: Seconds a request may take; a failed one is made again for about two minutes.
        batch: See :class:`VectorTheorems`.

    Raises:
        CorpusError: For a theorem that the endpoint refuses. Of a query that is a ``QueryError``.
        ConnectionError: If the endpoint isn't reached, or refuses the key or the model, now or when it is searched.
    """

    def __init__(
        self,
        corpus: Corpus,
        url: str,
        model: str,
        folder: str | Path,
        *,
        query_prefix: str = "query: ",
        theorem_prefix: str = "document: ",
        api_key: str | None = None,
        timeout: float = 120.0,
        batch: int = 64,
    ):
        import openai

        self._client = openai.OpenAI(base_url=url, api_key=api_key or "none", timeout=timeout, max_retries=_RETRIES)
        self._url, self._key = url, api_key
        self._model, self._query_prefix, self._theorem_prefix = model, query_prefix, theorem_prefix
        settings = {"endpoint_model": model, "document_prefix": theorem_prefix}
        super().__init__(corpus, folder, settings, batch=batch)

    def _encode_theorems(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return self._embed(texts, self._theorem_prefix)
        except _RefusedError as error:
            docno = next(docno for docno, text in self.texts.items() if text == error.text)
            raise CorpusError(
                f"{self._url} does not embed the theorem {docno!r} ({error.said}): shorten it, or let the server take "
                "longer texts"
            ) from error

    def _encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return self._embed(texts, self._query_prefix)
        except _RefusedError as error:
            raise QueryError(error.text, f"{self._url} does not embed a query ({error.said})") from error

    def _embed(self, texts: Sequence[str], prefix: str) -> np.ndarray:
        import numpy as np

        rows: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS_OF_A_REQUEST):
            rows += self._rows(texts[start : start + _TEXTS_OF_A_REQUEST], prefix)
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)

    def _rows(self, texts: Sequence[str], prefix: str) -> list[list[float]]:
        """Embeds texts in one request, or where that is refused, in one for each: the one at fault is then known.

        Raises:
            _RefusedError: For a text that is refused by itself.
        """
        import openai

        asked = [prefix + text for text in texts]
        try:
            data = self._client.embeddings.create(model=self._model, input=asked, encoding_format="float").data
        except openai.OpenAIError as error:
            said = str(error).replace(self._key, "…") if self._key else str(error)
            if isinstance(error, openai.APIStatusError) and error.status_code in _REFUSALS:
                if len(texts) == 1:
                    raise _RefusedError(texts[0], said) from error
                return [row for text in texts for row in self._rows([text], prefix)]
            raise ConnectionError(
                f"{self._url} embeds nothing by the model {self._model!r} ({said}): start the server, or check its "
                "URL (retriever.url), the model (retriever.model) and the key"
            ) from error
        if sorted(entry.index for entry in data) != list(range(len(asked))):
            raise CorpusError(f"{self._url} gave {len(data)} vectors for {len(asked)} texts")
        return [entry.embedding for entry in sorted(data, key=lambda entry: entry.index)]
