"""RaDeR rerankers as a PyTerrier transformer."""

from collections.abc import Hashable
from pathlib import Path

import pandas as pd
import pyterrier as pt

from pyterrier_radar import _frames
from pyterrier_radar._equality import EqualBySettings
from torch_radar.checkpoints import Checkpoint
from torch_radar.encoder import TextError
from torch_radar.reranker import Reranker
from torch_radar.templates import PairTemplate


class RadarReranker(EqualBySettings, pt.Transformer):
    """Scores each (query, document) pair of a result frame with a pointwise reranker.

    ::

        reranker = RadarReranker("Raderspace/reranker_Qwen25_7B_NuminaMath_MATH_allquerytypes")
        bm25 % 100 >> dataset.text_loader() >> reranker

    The documents of a query share the work on its text, and equal pairs are scored once. Weights are loaded when
    something is first scored; an unknown name is refused at once. Equal only if every setting that changes a score
    is equal.

    .. cite.dblp:: journals/corr/abs-2505-18405
    """

    def __init__(
        self,
        model: str | Path | Checkpoint | None = None,
        *,
        template: str | PairTemplate | None = None,
        max_tokens: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        text_field: str = "text",
        verbose: bool = False,
    ):
        """Names a checkpoint and how to run it.

        Args:
            model: a released reranker, a local folder with its ``radar.json``, or a Checkpoint. There is no default.
            template: pair form (``"recovered"``, ``"authors"`` or your own), in place of the checkpoint's.
            max_tokens: longest pair in tokens; only its document is cut. The checkpoint's own where None.
            device: ``"cuda"``, ``"cpu"`` …; the best one present where None.
            dtype: ``"float32"``, ``"bfloat16"`` …; the device's usual one where None.
            batch_tokens: token budget of a batch; it changes speed and memory, not the scores.
            text_field: column that holds the text of documents.
            verbose: whether to show progress.

        Raises:
            ValueError: No checkpoint is named, or it, the template, device or dtype is unknown.
        """
        self.model = model
        self.template = template
        self.max_tokens = max_tokens
        self.device = device
        self.dtype = dtype
        self.batch_tokens = batch_tokens
        self.text_field = text_field
        self.verbose = verbose
        self.reranker = Reranker(
            model,
            template=template,
            max_tokens=max_tokens,
            device=device,
            dtype=dtype,
            batch_tokens=batch_tokens,
            progress=verbose,
        )

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Sets ``score`` (the logit) and ``rank`` of every row.

        Raises:
            ValueError: A query is blank, a text missing, or a query so long that no token is left for a document;
                the message names the qid or docno.
        """
        pt.validate.result_frame(inp, extra_columns=["query", self.text_field], context=self)
        if not len(inp):
            return pt.model.add_ranks(inp.assign(score=pd.Series(dtype="float64")))
        pairs = list(zip(_frames.queries(inp), _frames.texts(inp, self.text_field, "docno"), strict=True))
        try:
            scores = self.reranker.score(pairs)
        except TextError as error:
            qid, docno = inp[["qid", "docno"]].iloc[error.position]
            raise ValueError(f"qid {qid!r} with docno {docno!r}: {error.problem}") from error
        return pt.model.add_ranks(inp.assign(score=scores.astype("float64")))

    def __repr__(self) -> str:
        return f"RadarReranker({self.reranker.checkpoint.name!r})"

    def _settings_key(self) -> Hashable:
        return (frozenset(self.reranker.settings().items()), self.text_field)
