"""What an experiment is: data that the one runner reads."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch_radar.paper import ORIGINAL, Row

REWRITTEN = "rewritten"
"""The form of the queries that a language model writes when the experiment runs (``ReasoningQuery``)."""


@dataclass(frozen=True)
class Split:
    """One test collection of an experiment, and how the paper runs it.

    Attributes:
        name: its name, and that of its files in a folder of the user's.
        dataset: its ir_datasets id; None where ir_datasets has it not, and files are needed.
        measures: by their ir_measures names, the main one first.
        instruction: put inside the query prefix of retrievers that read one.
        alpha: weight of the dense ranking in the hybrid (paper §5); 1 is the dense ranking itself.
        family: which prompt a language model rates (query, document) pairs with.
        paper: its name in :mod:`torch_radar.paper`.
    """

    name: str
    dataset: str | None
    measures: tuple[str, ...]
    instruction: str = ""
    alpha: float = 0.8
    family: str = "general"
    paper: str = ""

    @property
    def main_measure(self) -> str:
        """The measure that tables begin with and significance is tested on."""
        return self.measures[0]


@dataclass(frozen=True)
class Experiment:
    """Test collections that are measured together, and what the paper printed for them.

    Attributes:
        name: what the command calls it.
        title: a line above tables and figures.
        splits: the collections, in the paper's order.
        query_variants: forms of the queries that the collections bring; ``rewritten`` there is always.
        published: the paper's rows.
        counted: what a language model's counts are of.
    """

    name: str
    title: str
    splits: tuple[Split, ...]
    query_variants: tuple[str, ...] = (ORIGINAL,)
    published: tuple[Row, ...] = ()
    counted: str = "ratings"

    def select(self, names: Sequence[str]) -> "Experiment":
        """Returns the experiment on some of its splits alone, in its own order; none named means all.

        Raises:
            ValueError: for a split that it hasn't.
        """
        known = {split.name.replace("_", "-"): split for split in self.splits}
        spelled = {name.replace("_", "-"): name for name in names}
        for name, given in spelled.items():
            if name not in known:
                raise ValueError(f"{self.name} has no split {given!r}{_hint(name, list(known))}")
        return replace(self, splits=tuple(split for name, split in known.items() if not spelled or name in spelled))

    def require_queries(self, names: Sequence[str]) -> None:
        """Refuses a form of the queries that there isn't.

        Raises:
            ValueError: it names the forms there are.
        """
        known = [*self.query_variants, REWRITTEN]
        for name in names:
            if name not in known:
                raise ValueError(f"{self.name} has no queries {name!r}{_hint(name, known)}")


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return f": did you mean {' or '.join(close)}?" if close else f": it has {', '.join(known)}"
