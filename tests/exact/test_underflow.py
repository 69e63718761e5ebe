"""One record for the arrays of a chain, and one rule that says when a pass may have lost weight."""

import itertools

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from chains import TINY, arrays
from comparisons import assert_equal
from jaxtyping import TypeCheckError

from ppl_hmm.exact import chain, concepts
from ppl_hmm.exact.algebra import LOG, SCALED
from ppl_hmm.exact.recursion import Chain, forward
from ppl_hmm.exact.underflow import Floor, Watch, cancels, smallest_total


def two_rooms(seed=0):
    """Return two chains that never meet; each of two rows makes the states of one faint beside the others."""
    initial, transition, table, ids = arrays(seed, n_models=2, n_sequences=8)
    transition[:, :2, 2:] = transition[:, 2:, :2] = 0
    table[:, 0, :2] = table[:, 1, 2:] = TINY
    return Chain(initial, transition, table, ids)


@pytest.mark.parametrize("field", range(4))
def test_shapes_of_the_record_are_checked_together(field):
    given = list(arrays(0, n_models=2))
    given[field] = given[field][:1]  # of one model, beside arrays of two
    with pytest.raises((TypeCheckError, BeartypeCallHintViolation)):
        Chain(*given)


def test_parts_of_a_record_keep_the_rest():
    whole = Chain(*arrays(0, n_sequences=4))
    some = whole.sequences(slice(1, 3))
    assert torch.equal(some.ids, whole.ids[:, 1:3])
    assert all(one is other for one, other in zip(some.parameters, whole.parameters, strict=True))


def test_the_floor_is_what_one_step_can_divide_by():
    transition = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]], dtype=torch.float64)
    table = torch.tensor([[[1e-9, 4.0], [0.0, 1.0]]], dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    assert float(Floor.of(transition, table).each) == pytest.approx(tiny / 0.5 / 1e-9 * 4, rel=1e-15)


def test_weights_above_the_floor_stay_floats():
    """The step that the rule promises to survive, at its worst: the smallest entries, the largest total."""
    model = two_rooms()
    floor = Floor.of(model.transition, model.table).each[:, 0, 0]
    moves, rows = (torch.where(part > 0, part, torch.inf).amin((-2, -1)) for part in (model.transition, model.table))
    after = floor * moves * rows / model.table.amax((-2, -1)).clamp(min=1)
    assert (after >= torch.finfo(torch.float64).tiny * (1 - 1e-12)).all()


def test_a_watch_remembers_and_logarithms_need_none():
    model = two_rooms()
    watch = Watch.over(SCALED, model)
    assert not watch.lost.any()
    seen = []
    for _, law, _ in forward(SCALED, model):
        watch.law(law)
        seen.append(watch.lost)
    assert seen[-1].any()
    assert all((before <= after).all() for before, after in itertools.pairwise(seen))
    in_logarithms = Watch.over(LOG, model)
    in_logarithms.law(torch.full((2, 8, 4), -1e9, dtype=torch.float64))
    in_logarithms.total(torch.full((2, 8), -1e9, dtype=torch.float64))
    assert not in_logarithms.lost.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_totals_cancel_below_the_smallest(dtype):
    limit = smallest_total(dtype)
    assert cancels(torch.tensor([0.0, limit / 2, limit, 1.0], dtype=dtype)).tolist() == [True, True, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_the_initial_posterior_is_that_of_logarithms(seed):
    model = two_rooms(seed)
    law, possible = chain.initial_posterior(model)
    exact, _ = chain.RESCUE.smooth(model, [], own_token=True)
    assert_equal(law, exact.initial)
    assert torch.equal(possible, exact.log_evidence > -torch.inf)


@pytest.mark.parametrize("seed", range(3))
def test_laws_after_text_are_those_of_logarithms_from_any_start(seed):
    model = two_rooms(seed)
    start = torch.rand(2, 8, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    start = start / start.sum(-1, keepdim=True)
    assert concepts._pass(SCALED, model, start)[2].any()
    totals, filtered = concepts.log_totals_and_filtered(model, start)
    exact_totals, exact, lost = concepts._pass(LOG, model, start)
    assert not lost.any()
    assert_equal(totals, exact_totals, 1e-9)
    assert_equal(filtered, exact)
