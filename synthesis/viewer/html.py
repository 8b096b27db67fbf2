"""The page around a view, and the small parts of views. Every text that is not ours goes through ``escape``."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

__all__ = ["chip", "escape", "number", "page", "paragraphs", "tiles"]


def page(title: str, body: str, back: tuple[str, str] | None = None) -> str:
    """Returns a whole document that needs nothing else to be shown.

    Args:
        title: Its title, plain text.
        body: Its contents, HTML.
        back: Address and name of the page it belongs to.
    """
    script = _asset("view.js")
    # Whatever slipped into the page could not run: the browser runs the one script of this digest.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    link = f'<nav><a href="{escape(back[0])}">← {escape(back[1])}</a></nav>' if back else ""
    return Template(_asset("page.html")).substitute(
        title=escape(title), style=_asset("view.css"), script=script, digest=digest, body=f"{link}{body}"
    )


def paragraphs(text: str) -> str:
    """Returns a text as it was written, line breaks kept."""
    return f'<p class="prose">{escape(text)}</p>'


def chip(text: str, kind: str) -> str:
    """Returns a small label; ``kind`` is its style class."""
    return f'<span class="chip {kind}">{escape(text)}</span>'


def tiles(figures: Mapping[str, str]) -> str:
    """Returns figures with what they count, side by side."""
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(figure)}</dd></div>" for name, figure in figures.items())
        + "</dl>"
    )


def number(value: int) -> str:
    """Returns a whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


@cache
def _asset(name: str) -> str:
    return files("synthesis.viewer").joinpath("assets", name).read_text(encoding="utf-8")
