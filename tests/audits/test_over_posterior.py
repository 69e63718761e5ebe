"""What draws of a fit say of heads and prompts: as the functions of one model, and the same for every numbering."""

import functools

import numpy as np
import pytest
import torch
import xarray as xr
from fits_of_draws import dirichlet, fit_of
from hypothesis import given, settings, strategies as st

import ppl_hmm
from ppl_hmm import (
    HMM,
    InvalidInput,
    OracleLM,
    PosteriorTask,
    chain_certificate,
    document_class,
    latent_posterior,
    masks_needed,
    next_token_class,
    probe_features,
    recoverability_posterior,
    smallest_half_range,
    state_of_word,
    transfer_bounds,
)
from ppl_hmm.audits.over_posterior.crossing import TextOfDraws
from ppl_hmm.models.canonical import in_canonical_order

TASK = next_token_class([0, 1])


def of_fit(models, task=TASK, **options):
    options = {"n_texts": 30, "n_draws": 1000, "budgets": [1.0, 10.0, 1e3], "seed": 0, **options}
    return recoverability_posterior(fit_of(models), task, **options)["recoverability_posterior"].to_dataset()


@functools.cache
def found():
    return of_fit(dirichlet(6), questions=("head", "masks", "prompt"))


def each_draw():
    models = in_canonical_order(dirichlet(6))
    draws = found().stack(every=("chain", "draw"))
    return [(models[number], draws.isel(every=number)) for number in range(6)]


def test_each_draw_answers_as_the_functions_of_one_model():
    for model, draw in each_draw():
        task = TASK(model)
        scale = float(task.scale)
        chain = chain_certificate(model, task, 2)
        prompt = ppl_hmm.prompt_certificate(model, task).prompt
        expected = [
            smallest_half_range(model, task).half_range,
            chain.half_range,
            smallest_half_range(model, task, prompt).half_range,
        ]
        np.testing.assert_allclose(draw["half_range"], np.array(expected) / scale, rtol=1e-9)
        assert draw["masks_needed"] == masks_needed(model, task).n_masks
        np.testing.assert_allclose(draw["sigma_min"], torch.linalg.svdvals(model.emission)[-1], rtol=1e-9)


def test_heads_across_draws_one_by_one():
    models = in_canonical_order(dirichlet(6))
    tasks = [TASK(models[number]) for number in range(6)]
    text = TextOfDraws.of(models, tasks, 30, 6, 0)
    accuracy = np.empty((6, 6))
    for j, k in np.ndindex(6, 6):
        head = smallest_half_range(models[j], tasks[j]).weights
        scores = probe_features(OracleLM(models[k]), text.tokens[k]) @ head
        labels = tasks[k].labels(latent_posterior(models[k], tasks[k], text.tokens[k]))
        accuracy[j, k] = ((scores >= 0) == labels.bool()).double().mean()
    others = accuracy[~np.eye(6, dtype=bool)].reshape(6, 5)
    draws = found().sel(question="head")
    np.testing.assert_allclose(draws["own_accuracy"].values.ravel(), accuracy.diagonal())
    np.testing.assert_allclose(draws["cross_draw_accuracy"].values.ravel(), others.mean(1))
    np.testing.assert_allclose(draws["cross_draw_spread"].values.ravel(), others.std(1))
    features = probe_features(OracleLM(models[0]), text.tokens[0])
    bound = transfer_bounds(features, smallest_half_range(models[0], tasks[0]).weights, draws["excess"].values)
    np.testing.assert_allclose(draws["transfer_bound"].values[0, 0], bound.sharp_bound)


def test_a_probability_is_a_share_of_draws_with_an_error():
    share = (found()["half_range"] <= found()["budget"]).mean(("chain", "draw"))
    xr.testing.assert_allclose(found()["probability"].transpose(*share.dims), share)
    assert (found()["probability_error"] > 0).all()
    independent = of_fit(dirichlet(100), questions=("head",), n_texts=2, length=1)
    error = independent["probability_error"].sel(budget=1.0).item()
    share = independent["probability"].sel(budget=1.0).item()
    assert error == pytest.approx(np.sqrt(share * (1 - share) / 100), rel=0.5)  # as of independent draws


@st.composite
def tied_draws(draw):
    """Draws with equal states, zeros, and dependent rows; and another numbering of the states of each."""
    n_states = draw(st.integers(2, 4))

    def laws(n_rows, n_columns):
        row = st.lists(st.integers(0, 2), min_size=n_columns, max_size=n_columns).filter(any)
        rows = np.array(draw(st.lists(row, min_size=n_rows, max_size=n_rows)), float)
        return rows / rows.sum(-1, keepdims=True)

    models = [HMM(laws(1, n_states)[0], laws(n_states, n_states), laws(n_states, 3)) for _ in range(2)]
    orders = [torch.tensor(draw(st.permutations(range(n_states)))) for _ in models]
    others = [
        HMM(model.initial[order], model.transition[order][:, order], model.emission[order])
        for model, order in zip(models, orders, strict=True)
    ]
    return HMM.stack(models), HMM.stack(others)


@settings(max_examples=6)
@given(tied_draws())
def test_the_numbers_of_states_change_no_bit(pair):
    first, second = (_said(models) for models in pair)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.identical(second)
        for name in first.data_vars:
            assert first[name].values.tobytes() == second[name].values.tobytes(), name


def _said(models):
    try:
        return of_fit(models, questions=("head", "masks", "prompt"), n_texts=8, length=4)
    except InvalidInput:
        return None


def test_draws_without_the_task_are_counted_apart():
    silent = HMM([1.0, 0, 0], np.full((3, 3), 1 / 3), np.full((3, 4), 0.25))  # one possible H_0
    models = [dirichlet(3)[number] for number in range(3)]
    found = of_fit(HMM.stack([*models, silent]))
    assert found.attrs["unanswered"] == 1
    assert "next_token_class" in found.attrs["refusal"]
    assert found["answered"].values.tolist() == [[1, 1], [1, 0]]
    assert np.isnan(found["half_range"].values[1, 1]).all()
    assert np.isfinite(found["half_range"].values[0]).all()
    assert found["probability"].sel(budget=1e3, question="head") == 1
    with pytest.raises(InvalidInput, match="next_token_class"):
        of_fit(HMM.stack([silent, silent]))


def test_a_draw_of_low_rank_has_no_head_of_any_half_range():
    emission = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    model = HMM([0.5, 0.3, 0.2], dirichlet(1).transition[0], emission)
    found = of_fit(HMM.stack([model, model]), state_of_word(0), questions=("head", "masks"))
    assert np.isinf(found["half_range"].sel(question="head")).all()
    for name, value in {"probability": 0, "constructed": 0, "transfer_bound": 1}.items():
        assert (found[name].sel(question="head") == value).all()
    assert (found["masks_needed"] == 2).all()


def test_classes_of_documents_and_tasks_on_positions():
    task = document_class([[0, 0, 0], [3, 3, 3], [1, 2, 1]], [0, 1, 2])
    several = of_fit(dirichlet(4), task)
    assert (several["own_accuracy"].sel(question="head") == 1).all()
    at_position = of_fit(dirichlet(4), lambda model: PosteriorTask(model.emission[:, :2].mT, 1, "context"))
    assert at_position["question"].values.tolist() == ["head"]
    assert (at_position["own_accuracy"] == 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": PosteriorTask([[0, 0, 0], [1, 0, -1]])}, "function from a model"),
        ({"task": lambda model: model}, "PosteriorTask"),
        ({"task": lambda _: PosteriorTask([[0, 0], [1, -1]])}, "weights"),
        ({"task": next_token_class([9])}, "0..3"),
        ({"questions": ("attention",)}, "questions"),
        ({"budgets": [0.0]}, "budgets"),
        ({"epsilons": [float("nan")]}, "epsilons"),
        ({"group": "posteriors"}, "group"),
        ({"group": "prior"}, "/prior"),
        ({"n_draws": 0}, "n_draws"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InvalidInput, match=message):
        of_fit(dirichlet(4), **options)
