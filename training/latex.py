r"""A tokenizer that reads LaTeX without its markup, for bases that never learnt it.

A BERT spends a third of its tokens of a theorem on ``$``, braces, ``\mathcal`` and ``\begin{enumerate}``. Leaving them
out shortens what is encoded and brings the words to the fore. The steps are part of the tokenizer itself, so whatever
reads its ``tokenizer.json`` (torch_radar, Sentence Transformers, vLLM, TEI) reads texts alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Regex
from tokenizers.normalizers import Replace, Sequence
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FONTS = r"it|bf|em|rm|sl|text(?:it|bf|rm|sf|tt)?|math(?:cal|frak|bb|bf|rm|scr|sf|it|op)?|emph|mbox|operatorname\*?"
_LAYOUT = (
    r"left|right|[bB]igg?[lr]?|displaystyle|limits|nolimits|quad|qquad|item|noindent|nonumber|[lcvd]?dots|"
    r"(?:sub)*section\*?|PMlink\w*"
)
_LEFT_OUT = (
    r"\\(?:begin|end)\s*\{[^}]*\}(?:\[[^\]]*\])?",
    r"\\(?:label|ref|eqref|cite|usepackage|input|includegraphics|hspace|vspace|PMlinkexternal|PMlinkid)\s*\{[^}]*\}",
    rf"\\(?:{_FONTS}|{_LAYOUT})(?![A-Za-z])",
    r"\\[^A-Za-z]",
    r"[\\${}~]",
    r"(?<=[A-Za-z0-9)])\s*_\s*",
)


def reading_latex(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """Returns a tokenizer of the same vocabulary that leaves out LaTeX markup before anything else.

    It is of the general class: the class of a model family builds its own steps anew when it is loaded, and would drop
    these.

    Raises:
        ValueError: If the tokenizer has no steps to put these before, as those in plain Python.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{type(tokenizer).__name__} is not a fast tokenizer: reads_latex needs one")
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend = type(backend).from_str(backend.to_str())
    backend.normalizer = Sequence([*(Replace(Regex(pattern), " ") for pattern in _LEFT_OUT), *own])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=tokenizer.model_max_length, **tokenizer.special_tokens_map
    )
