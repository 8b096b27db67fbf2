"""What an experiment found: values per query, and the comparisons that are significant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pyterrier_radar.commands._options import Correction, SignificanceTest
from pyterrier_radar.experiments._declarations import Experiment, Split

LEVEL = 0.05
_RESAMPLES = 10_000
_VALUES_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Cell:
    """One system on one split under one form of the queries.

    Attributes:
        split: the collection.
        queries: the form of its queries.
        system: the system.
        values: a row for each judged query (its qid the index), a column for each measure.
        ms_per_query: wall time, models loaded and indexes built.
        reused: whether an earlier run was used again.
        facts: counts of ratings or answers, and of tokens.
    """

    split: Split
    queries: str
    system: str
    values: pd.DataFrame
    ms_per_query: float
    reused: bool
    facts: dict[str, int]

    def mean(self, measure: str) -> float:
        """The mean of a measure over queries."""
        return float(self.values[measure].mean())


@dataclass(frozen=True)
class Comparison:
    """A system against the baseline on one split, by the split's main measure.

    Attributes:
        cell: the system's.
        baseline: the baseline's.
        difference: of the means.
        p: of the paired two-sided test.
        corrected: the same, corrected for all comparisons of the experiment.
    """

    cell: Cell
    baseline: Cell
    difference: float
    p: float
    corrected: float

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p is below .05."""
        return self.corrected < LEVEL


@dataclass(frozen=True)
class Results:
    """All cells of an experiment and their comparisons.

    Attributes:
        experiment: what was run.
        cells: in the order of splits, queries and systems.
        labels: what each system is, in words.
        model: what ran: names, device, settings.
        comparisons: of every system with the baseline.
        test: how they were made, in words.
    """

    experiment: Experiment
    cells: list[Cell]
    labels: dict[str, str]
    model: dict[str, Any]
    comparisons: list[Comparison]
    test: str

    def rows(self) -> Iterator[tuple[str, str, dict[str, Cell]]]:
        """Yields (system, queries, cells by split name), queries outermost."""
        for queries in dict.fromkeys(cell.queries for cell in self.cells):
            alike = [cell for cell in self.cells if cell.queries == queries]
            for system in dict.fromkeys(cell.system for cell in alike):
                yield system, queries, {cell.split.name: cell for cell in alike if cell.system == system}

    def per_query(self) -> pd.DataFrame:
        """Every value: ``split``, ``queries``, ``system``, ``qid``, ``measure``, ``value``."""
        frames = [
            cell.values.rename_axis(index="qid", columns=None)
            .reset_index()
            .melt("qid", var_name="measure", value_name="value")
            .assign(split=cell.split.name, queries=cell.queries, system=cell.system)
            for cell in self.cells
        ]
        return pd.concat(frames, ignore_index=True)[["split", "queries", "system", "qid", "measure", "value"]]

    def as_dict(self) -> dict[str, Any]:
        """The results as JSON holds them."""
        splits: dict[str, Any] = {}
        for cell in self.cells:
            place = splits.setdefault(cell.split.name, {"queries": len(cell.values), "systems": {}})
            place["systems"].setdefault(cell.queries, {})[cell.system] = {
                "measures": {str(measure): cell.mean(measure) for measure in cell.values},
                "ms_per_query": cell.ms_per_query,
                "reused": cell.reused,
            } | ({self.experiment.counted: cell.facts} if cell.facts else {})
        compared = [
            {
                "split": one.cell.split.name,
                "queries": one.cell.queries,
                "measure": one.cell.split.main_measure,
                "system": one.cell.system,
                "baseline": one.baseline.system,
                "difference": one.difference,
                "p": one.p,
                "p_corrected": one.corrected,
            }
            for one in self.comparisons
        ]
        head = {"experiment": self.experiment.name, **self.model, "splits": splits}
        return head | {"significance": {"test": self.test, "comparisons": compared}}


def compare(cells: list[Cell], baseline: str, *, test: SignificanceTest, correction: Correction) -> list[Comparison]:
    """Compares every system with the baseline on the same split, queries and judged topics.

    One family of tests: all of them are corrected together.

    Args:
        cells: what to compare.
        baseline: a system among them.
        test: paired t-test, or paired randomisation test of the mean difference.
        correction: for the number of comparisons.
    """
    from statsmodels.stats.multitest import multipletests

    base = {(cell.split.name, cell.queries): cell for cell in cells if cell.system == baseline}
    pairs = [(cell, base[cell.split.name, cell.queries]) for cell in cells if cell.system != baseline]
    if not pairs:
        return []
    differences = [
        (cell.values[cell.split.main_measure] - other.values[cell.split.main_measure]).to_numpy(dtype=float)
        for cell, other in pairs
    ]
    ps = [_p(difference, test) for difference in differences]
    corrected = multipletests(ps, method=correction)[1]
    return [
        Comparison(cell, other, float(difference.mean()), p, float(adjusted))
        for (cell, other), difference, p, adjusted in zip(pairs, differences, ps, corrected, strict=True)
    ]


def _p(differences: np.ndarray, test: SignificanceTest) -> float:
    """The two-sided p of paired differences; 1 where there is no difference or a single pair, and nothing to test."""
    from scipy import stats

    if len(differences) < 2 or not differences.any():
        return 1.0
    if test == "t-test":
        if np.ptp(differences) == 0:
            return 0.0
        return float(stats.ttest_1samp(differences, 0.0).pvalue)
    # under the null hypothesis every difference may as well have the other sign
    sampled = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=max(1, _VALUES_AT_ONCE // len(differences)),  # of MS MARCO's queries all would take 5 GB
        vectorized=True,
        rng=0,
    )
    return float(sampled.pvalue)
