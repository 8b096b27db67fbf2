"""The paper's experiments as data, and one runner for all of them (``radar evaluate bright``).

An :class:`Experiment` says which collections there are, with which instruction, interpolation and rating prompt each is
run, what is measured, and what the paper printed. :func:`run` does the rest, :func:`write` puts it on disk; your own
experiment is one more declaration. ``THEOREMQA_QA`` is run by :func:`run_questions`: a language model answers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyterrier_radar.experiments._bright import BRIGHT, BRIGHT_LONG, family_for_dataset
from pyterrier_radar.experiments._declarations import REWRITTEN, Experiment, Split
from pyterrier_radar.experiments._others import MS_MARCO, RARB, THEOREMQA_QA

if TYPE_CHECKING:
    from pyterrier_radar.experiments._answering import run_questions
    from pyterrier_radar.experiments._questions import load_questions, read_questions
    from pyterrier_radar.experiments._report import write
    from pyterrier_radar.experiments._results import Results, compare
    from pyterrier_radar.experiments._runner import LanguageModelServer, run

EXPERIMENTS = {experiment.name: experiment for experiment in (BRIGHT, BRIGHT_LONG, RARB, MS_MARCO)}
"""What :func:`run` runs, by the name that the command knows it by."""

__all__ = [
    "BRIGHT",
    "BRIGHT_LONG",
    "EXPERIMENTS",
    "MS_MARCO",
    "RARB",
    "REWRITTEN",
    "Experiment",
    "LanguageModelServer",
    "Results",
    "Split",
    "THEOREMQA_QA",
    "compare",
    "family_for_dataset",
    "load_questions",
    "read_questions",
    "run",
    "run_questions",
    "write",
]

# what loads torch and pyterrier-dr is imported when it is first asked for
_MODULES = {
    "LanguageModelServer": "_runner",
    "Results": "_results",
    "compare": "_results",
    "load_questions": "_questions",
    "read_questions": "_questions",
    "run": "_runner",
    "run_questions": "_answering",
    "write": "_report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
