"""Long documents as windows of a model's own tokens, and rankings of windows as rankings of documents."""

from collections.abc import Callable, Hashable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from torch_radar.checkpoints import Checkpoint, resolve
from torch_radar.encoder import Encoder
from torch_radar.reranker import Reranker
from torch_radar.templates import framing, token_ids

if TYPE_CHECKING:
    from pyterrier_radar._bi_encoder import RadarBiEncoder
    from pyterrier_radar._reranker import RadarReranker

_LEAST_ROOM = 8  # tokens: any character has fewer

Model = Union[str, Path, Checkpoint, Encoder, Reranker, "RadarBiEncoder", "RadarReranker", None]


class SlidingWindows(EqualBySettings, pt.Transformer):
    """Cuts documents into overlapping windows that a model reads whole.

    ::

        windows = SlidingWindows(encoder, tokens=512, stride=256)
        (windows >> index).index(dataset.get_corpus_iter())
        index.retriever() >> MaxPassage() >> ExcludeDocuments(qrels)

        bm25 % 100 >> dataset.text_loader() >> SlidingWindows(reranker, 1024, 512) >> reranker >> MaxPassage()

    The tokens are those of the model's own tokenizer. Every window, in the model's template and with its special
    tokens, has at most ``tokens`` of them, so nothing is cut off again when it is read; every character of the text
    is in a window, but white space between two. A document that fits is one window, unchanged.

    A window's docno is ``{docno}%p{start}-{end}``: it holds the characters ``text[start:end]`` of its document.
    Exclusions and judgements name documents, so they belong behind :class:`MaxPassage`, not into the retriever.
    """

    schematic = {"label": "SlidingWindows"}

    def __init__(self, model: Model = None, tokens: int = 512, stride: int | None = None, *, text_field: str = "text"):
        """Says whose tokens are counted and how many.

        Args:
            model: what will read the windows: a retriever or reranker of this package or of ``torch_radar``, which is
                shared, or a checkpoint's name or folder, of which the tokenizer alone is loaded. The small default
                where None. For a reranker the query of each row is counted in, too.
            tokens: the most tokens of a window, template included.
            stride: tokens from the start of one window to that of the next; half of ``tokens`` where None. Where that
                is more than a window holds, windows follow one another without overlap.
            text_field: column that holds the text of documents.

        Raises:
            ValueError: The checkpoint is unknown, reads fewer tokens, or a number is out of range.
        """
        self.model = model
        self.tokens = tokens
        self.stride = max(1, tokens // 2) if stride is None else stride
        self.text_field = text_field
        self._reader = _reader(model)
        limit = self._reader.max_document_tokens if isinstance(self._reader, Encoder) else self._reader.max_tokens
        if not 1 <= tokens <= limit:
            raise ValueError(f"tokens is {tokens}: {self._reader.checkpoint.name} reads from 1 to {limit} of them")
        if self.stride < 1:
            raise ValueError(f"stride is {stride}: it must be 1 or more")

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Replaces each row by one for each window, in order; the other columns are repeated.

        Raises:
            ValueError: A text is missing, or ``tokens`` leave no room in the template; the message names the docno.
        """
        is_reranker = isinstance(self._reader, Reranker)
        with pt.validate.any(inp, context=self) as v:
            if not is_reranker:
                v.document_frame([self.text_field])
            v.result_frame(["query", self.text_field] if is_reranker else [self.text_field])
        texts = _frames.texts(inp, self.text_field, "docno")
        heads = self._heads(inp)
        known: dict[tuple[str, str], list[tuple[int, int]]] = {}
        rows, docnos, cut = [], [], []
        for row, (docno, head, text) in enumerate(zip(inp["docno"], heads, texts, strict=True)):
            if (head, text) not in known:
                known[head, text] = self._spans(docno, head, text)
            for start, end in known[head, text]:
                rows.append(row)
                docnos.append(f"{docno}%p{start}-{end}")
                cut.append(text[start:end])
        windows = inp.iloc[rows].reset_index(drop=True)
        return windows.assign(**{"docno": pd.Series(docnos, dtype="str"), self.text_field: pd.Series(cut, dtype="str")})

    def _heads(self, frame: pd.DataFrame) -> list[str]:
        """What stands before each row's document when it is read."""
        if isinstance(self._reader, Encoder):
            return [self._reader.template.document("")] * len(frame)
        return [self._reader.template.head(query) for query in _frames.queries(frame)]

    def _spans(self, docno: str, head: str, text: str) -> list[tuple[int, int]]:
        """Start and end of each window of a text."""
        tokenizer = self._reader.model.tokenizer
        tail, ends_with_eos = _closing(self._reader)
        frame = framing(tokenizer, ends_with_eos=ends_with_eos)

        def excess(window: str) -> int:
            return len(token_ids(tokenizer, [head + window + tail])[0]) + len(frame) - self.tokens

        if excess(text) <= 0:
            return [(0, len(text))]
        room = -excess("")
        if room < _LEAST_ROOM:
            raise ValueError(
                f"docno {docno!r}: {self.tokens} tokens leave room for {max(room, 0)} of the document, with "
                f"{head[:60]!r} before it: give {self.tokens + _LEAST_ROOM - room} or more"
            )
        tokenised = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        starts = [start for start, _ in tokenised["offset_mapping"]]
        # A window ends where the next token begins: what belongs to no token is in it, too.
        bounds = [0, *accumulate(starts[1:], max), len(text)]
        spans = _cut(text, bounds, room, self.stride, excess)
        if spans is None:
            raise ValueError(f"docno {docno!r} has a token that alone is too long for {self.tokens}: give more tokens")
        return spans

    def __repr__(self) -> str:
        return f"SlidingWindows({self._reader.checkpoint.name!r}, {self.tokens}, {self.stride})"

    def _settings_key(self) -> Hashable:
        return (frozenset(self._reader.settings().items()), self.tokens, self.stride, self.text_field)


class MaxPassage(EqualBySettings, pt.Transformer):
    """Turns a ranking of windows into one of documents: a document has the score of its best window.

    ``passage`` is the docno of that window, such as ``d7%p1024-3072``: characters 1,024 to 3,072 of document d7. Equal
    scores keep the order of the input. The first documents of a ranking of the best n windows are exact, however many
    come out: no document that is missing has a better window. Where too few do, retrieve more windows.
    """

    schematic = {"label": "MaxPassage"}

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Keeps the best row of each document, sorted by query and rank."""
        pt.validate.result_frame(inp, extra_columns=["score"], context=self)
        ranked = _frames.by_rank(inp)
        docnos = pd.Series([_frames.document_of(docno) for docno in ranked["docno"]], dtype="str")
        best = ranked.assign(passage=ranked["docno"], docno=docnos).drop_duplicates(["qid", "docno"])
        return _frames.by_rank(best)

    def __repr__(self) -> str:
        return "MaxPassage()"

    def _settings_key(self) -> Hashable:
        return ()


def _cut(
    text: str, bounds: list[int], room: int, stride: int, excess: Callable[[str], int]
) -> list[tuple[int, int]] | None:
    """Windows of at most ``room`` tokens; the i-th token is ``text[bounds[i]:bounds[i + 1]]``.

    Out of its place a piece of text may have other tokens, and more of them: such a window is made shorter. None if
    one token is too long.
    """
    spans, first, count = [], 0, len(bounds) - 1
    while first < count:
        last = min(first + room, count)
        start, end = _trimmed(text, bounds[first], bounds[last])
        while (over := excess(text[start:end])) > 0 and last > first + 1:
            last = max(first + 1, last - over)
            start, end = _trimmed(text, bounds[first], bounds[last])
        if over > 0:
            return None
        if start < end:
            spans.append((start, end))
        if last == count:
            break
        first = min(first + stride, last)
    return spans


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    window = text[start:end]
    end -= len(window) - len(window.rstrip())
    return min(end, start + len(window) - len(window.lstrip())), end


def _closing(reader: Encoder | Reranker) -> tuple[str, bool]:
    """What follows a document when it is read, and whether an EOS takes the place of the tokenizer's own end."""
    if isinstance(reader, Encoder):
        return "", reader.template.ends_with_eos
    return reader.template.after_document, reader.checkpoint.ends_with_eos


def _reader(model: Model) -> Encoder | Reranker:
    if isinstance(model, Encoder | Reranker):
        return model
    shared: Any = getattr(model, "encoder", None) or getattr(model, "reranker", None)
    if shared is not None:
        return shared
    checkpoint = None if model is None else resolve(model)
    return Reranker(checkpoint) if checkpoint is not None and checkpoint.kind == "reranker" else Encoder(checkpoint)
