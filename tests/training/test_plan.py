"""A plan visits every row as often as it should, in full batches, the same way every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.plan import choose, plan_rows

weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0]), min_size=1, max_size=40)
seeds = st.integers(0, 1000)


@settings(max_examples=60, deadline=None)
@given(weights=weights, batch=st.integers(1, 7), seed=seeds)
def test_an_epoch_visits_each_row_as_often_as_its_weight_says(weights: list[float], batch: int, seed: int) -> None:
    rows = plan_rows(np.array(weights), epochs=1, batch=batch, seed=seed)
    visits = np.bincount(rows, minlength=len(weights))
    assert len(rows) % batch == 0
    assert (visits <= np.ceil(weights)).all()
    # Without a remainder everyone's whole visits are made; a remainder leaves out less than one batch.
    assert np.maximum(np.floor(weights) - visits, 0).sum() < batch


def test_a_fraction_of_a_weight_is_a_chance() -> None:
    rows = plan_rows(np.full(4000, 1.25), epochs=1, batch=1, seed=3)
    visits = np.bincount(rows, minlength=4000)
    assert set(visits) == {1, 2}
    assert abs((visits == 2).mean() - 0.25) < 0.03


@settings(max_examples=60, deadline=None)
@given(sources=st.lists(st.integers(0, 3), min_size=1, max_size=60), batch=st.integers(1, 6), seed=seeds)
def test_with_sources_a_batch_holds_one_and_all_full_batches_are_there(
    sources: list[int], batch: int, seed: int
) -> None:
    of = np.array(sources)
    rows = plan_rows(np.ones(len(of)), epochs=1, batch=batch, seed=seed, sources=of)
    batches = rows.reshape(-1, batch)
    assert all(len(set(of[rows])) == 1 for rows in batches)
    assert len(np.unique(rows)) == len(rows)
    assert len(batches) == sum(count // batch for count in np.bincount(of))


def test_without_sources_batches_mix_them() -> None:
    of = np.arange(64) % 2
    batches = plan_rows(np.ones(64), epochs=1, batch=8, seed=0).reshape(-1, 8)
    assert any(len(set(of[rows])) == 2 for rows in batches)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 50), batch=st.integers(1, 6), seed=seeds, epochs=st.floats(0.1, 3.5))
def test_a_part_of_an_epoch_is_that_part_of_its_batches(count: int, batch: int, seed: int, epochs: float) -> None:
    rows = plan_rows(np.ones(count), epochs=epochs, batch=batch, seed=seed)
    full = count // batch
    assert abs(len(rows) // batch - epochs * full) <= 0.5 + 1e-9
    # The plan of more epochs begins with the plan of fewer.
    longer = plan_rows(np.ones(count), epochs=np.ceil(epochs), batch=batch, seed=seed)
    assert (longer[: len(rows)] == rows).all()
    for epoch in range(int(epochs)):
        visited = rows[epoch * full * batch : (epoch + 1) * full * batch]
        assert len(np.unique(visited)) == len(visited)


def test_seed_and_epoch_change_the_order_and_nothing_else_does() -> None:
    plan = plan_rows(np.ones(64), epochs=2, batch=8, seed=5)
    np.random.seed(0)
    assert (plan == plan_rows(np.ones(64), epochs=2, batch=8, seed=5)).all()
    assert not (plan[:64] == plan[64:]).all()
    assert not (plan == plan_rows(np.ones(64), epochs=2, batch=8, seed=6)).all()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_too_few_rows_for_a_batch_make_an_empty_plan(weight: float) -> None:
    assert len(plan_rows(np.full(3, weight), epochs=9, batch=4, seed=0)) == 0


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 30), how_many=st.integers(0, 12), seed=seeds, position=st.integers(0, 10**7))
def test_negatives_are_chosen_by_position_each_once(count: int, how_many: int, seed: int, position: int) -> None:
    chosen = choose(count, how_many, seed=seed, position=position)
    assert len(chosen) == len(set(chosen)) == min(count, how_many)
    assert all(0 <= index < count for index in chosen)
    np.random.default_rng().random(5)
    assert (chosen == choose(count, how_many, seed=seed, position=position)).all()


def test_another_position_chooses_other_negatives_and_each_gets_its_turn() -> None:
    chosen = [choose(10, 3, seed=0, position=position) for position in range(300)]
    assert len({tuple(one) for one in chosen}) > 100
    assert (np.bincount(np.concatenate(chosen), minlength=10) > 50).all()
