"""The paper's rows as data."""

import pytest

from torch_radar import paper
from torch_radar.checkpoints import CHECKPOINTS
from torch_radar.instructions import BRIGHT_REWRITES, BRIGHT_SPLITS


@pytest.mark.parametrize(
    "row", [row for row in paper.BRIGHT if row.values], ids=lambda row: f"{row.name} {row.queries}"
)
def test_a_printed_average_is_that_of_its_row(row: paper.Row) -> None:
    assert tuple(row.values) == BRIGHT_SPLITS
    # one row's printed average is 0.15 below that of its printed values; the others agree to rounding
    assert row.average is not None
    assert sum(row.values.values()) / len(row.values) == pytest.approx(row.average, abs=0.16)


def test_rows_name_query_forms_and_checkpoints_that_there_are() -> None:
    rows = (*paper.BRIGHT, *paper.RARB, *paper.MS_MARCO)
    assert {row.queries for row in rows} <= {"original", *BRIGHT_REWRITES}
    assert {row.checkpoint for row in rows if row.checkpoint} <= set(CHECKPOINTS)
