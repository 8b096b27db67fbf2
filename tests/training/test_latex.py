"""Tokenizers that leave out LaTeX markup."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tests.training.runs import write_recipe
from torch_radar.loading import weights_folder
from training.latex import reading_latex
from training.run import load_base

BASE = AutoTokenizer.from_pretrained(weights_folder("all-MiniLM-L6-v2"))
READING = reading_latex(BASE)


@pytest.mark.parametrize(
    ("latex", "read"),
    [
        (r"Let $\mathcal{F}$ be a \textit{sheaf} on $X_{i+1}$", "let F be a sheaf on X i+1"),
        (r"\begin{enumerate}[a] \item $x$ \end{enumerate}", "x"),
        (r"$\operatorname{Ext}^1_R(M,\,N)$ \label{lemma-x}", "Ext ^1 R(M, N)"),
        (r"by {\it Nakayama}, $\mathfrak m M = 0$\\", "by Nakayama, m M = 0"),
        (r"$\italic \leftarrow \items$", "italic leftarrow items"),  # commands that only begin like one left out
        ("plain words, as they are: it's 5 % or 3/4 (left)", "plain words, as they are: it's 5 % or 3/4 (left)"),
    ],
)
def test_markup_is_left_out_and_words_stay(latex: str, read: str) -> None:
    assert READING.tokenize(latex) == BASE.tokenize(read)


@given(st.text(alphabet=st.characters(exclude_characters="\\${}~_", codec="utf-8")))
@settings(max_examples=200, deadline=None)
def test_text_without_markup_is_read_as_before(text: str) -> None:
    assert READING(text)["input_ids"] == BASE(text)["input_ids"]


@given(st.text(alphabet="\\${}_^ abit[]emphbeginend\n"))
@settings(max_examples=200, deadline=None)
def test_any_broken_markup_is_read(text: str) -> None:
    ids = READING(text)["input_ids"]
    assert (ids[0], ids[-1]) == (BASE.cls_token_id, BASE.sep_token_id)


def test_it_survives_saving_and_loading(tmp_path) -> None:
    READING.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = r"a $\mathcal{O}_X$-module \emph{of finite type} [SEP] b"
    assert again(text)["input_ids"] == READING(text)["input_ids"] != BASE(text)["input_ids"]
    assert (again.pad_token_id, again.sep_token_id) == (BASE.pad_token_id, BASE.sep_token_id)
    assert again.model_max_length == BASE.model_max_length


def test_the_base_of_a_run_keeps_its_own_tokenizer_unchanged() -> None:
    assert BASE.tokenize("$x$") == ["$", "x", "$"]


def test_a_recipe_asks_for_it(base, data, tmp_path) -> None:
    settings = {"base": {"name": "all-MiniLM-L6-v2", "template": "plain", "pooling": "mean", "reads_latex": True}}
    recipe = write_recipe(tmp_path / "r.yaml", base, "retriever", data, **settings)
    loaded, _ = load_base(recipe)
    assert loaded.tokenizer.tokenize("$x$") == ["x"]
