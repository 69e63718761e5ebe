"""Speed beside the peers: correctness first, then medians of ratios, own and peers in turn.

Seconds go to results/bench.jsonl, one line a test. What must hold is asserted; what is aimed at is printed beside it.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import statistics

import jaxtyping
import numpy as np
import pytest
import torch
from benchmarks import measure, peers

from ppl_hmm import log_likelihood, posterior, random_hmm, sample
from ppl_hmm.exact import chain

# Peers may warn of what they import.
pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

REPORT = pathlib.Path(os.environ.get("PPL_HMM_BENCH_REPORT", "results/bench.jsonl"))
SHAPES = [(5000, 128, 8, 10), (5000, 128, 30, 10), (1, 10240, 8, 10), (1, 10240, 30, 10), (64, 512, 256, 100)]
# Aims beside the peer in the same precision, and beside the roofline.
AIMS32 = dict(zip(SHAPES, [(2, None), (3.5, 1.6), (1.2, None), (3, None), (1.8, 1.7)], strict=True))
AIMS64 = dict(zip(SHAPES, [5, 5, 2, 4, None], strict=True))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=["x".join(map(str, shape[:3])) for shape in SHAPES])


@pytest.fixture(autouse=True)
def as_users_run_it():
    """Use all cores, and leave out the checks of shapes that tests put around every kernel."""
    torch.set_num_threads(os.cpu_count() or 1)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.set_num_threads(1)


def problem(shape, dtype):
    n_texts, length, n_states, vocabulary_size = shape
    model = random_hmm("dirichlet", n_states, vocabulary_size, seed=0)
    return model.to(dtype), sample(model, n_texts, length, seed=0).tokens


def report(**facts):
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    with REPORT.open("a") as lines:
        lines.write(json.dumps(facts | {"environment": measure.environment()}) + "\n")


@each_shape
def test_smoothing_float32_beside_dynamax(shape):
    model, text = problem(shape, torch.float32)
    functions = {
        "own": lambda: posterior(model, text).smoothed,
        "dynamax": peers.dynamax(model, text),
        "roofline": peers.roofline(model, text),
    }
    exact = posterior(model.to(torch.float64), text[:20]).smoothed
    np.testing.assert_allclose(functions["own"]()[:20], exact, atol=1e-4)
    np.testing.assert_allclose(functions["dynamax"]()[:20], exact, atol=1e-3)
    seconds = measure.side_by_side(functions)
    aim, of_roofline = AIMS32[shape]
    report(what="smoothing", dtype="float32", shape=shape, seconds=seconds, aim=aim, aim_of_roofline=of_roofline)
    print(f"\n{shape}: dynamax/own {measure.ratio(seconds, 'dynamax'):.2f} (aim {aim}), own/roofline", end=" ")
    print(f"{1 / measure.ratio(seconds, 'roofline'):.2f} (aim {of_roofline})")
    assert measure.ratio(seconds, "dynamax") > 1


@each_shape
def test_smoothing_float64_beside_hmmlearn(shape):
    model, text = problem(shape, torch.float64)
    functions = {"own": lambda: posterior(model, text).smoothed, "hmmlearn": peers.hmmlearn(model, text)}
    np.testing.assert_allclose(functions["own"](), functions["hmmlearn"](), atol=1e-9)
    seconds = measure.side_by_side(functions, rounds=3)
    report(what="smoothing", dtype="float64", shape=shape, seconds=seconds, aim=AIMS64[shape])
    print(f"\n{shape}: hmmlearn/own {measure.ratio(seconds, 'hmmlearn'):.2f} (aim {AIMS64[shape]})")
    assert measure.ratio(seconds, "hmmlearn") > 1


@pytest.mark.parametrize("n_states", [8, 30])
def test_smoothing_float32_beside_the_others(n_states):
    model, text = problem((500, 128, n_states, 10), torch.float32)
    functions = {
        "own": lambda: posterior(model, text).smoothed,
        "pomegranate": peers.pomegranate(model, text),
        "pyro": peers.pyro_filter(model, text),  # it has no smoother
    }
    seconds = measure.side_by_side(functions, rounds=3)
    report(what="smoothing", dtype="float32", shape=(500, 128, n_states, 10), seconds=seconds)
    ratios = {name: measure.ratio(seconds, name) for name in ("pomegranate", "pyro")}
    print(f"\n{n_states} states: " + ", ".join(f"{name}/own {ratio:.1f}" for name, ratio in ratios.items()))
    assert min(ratios.values()) > 1


@pytest.mark.parametrize(("shape", "aim", "aim_pyro"), [((1000, 128, 30, 10), 2.5, 100), ((100, 128, 8, 10), 2, None)])
def test_value_and_gradient_float32(shape, aim, aim_pyro):
    model, text = problem(shape, torch.float32)
    leaves = [array.clone().requires_grad_() for array in (model.initial, model.transition, model.emission)]

    def own():
        value = log_likelihood(type(model)(*leaves), text).sum()
        return value.detach(), torch.autograd.grad(value, leaves)

    functions = {
        "own": own,
        "dynamax": peers.dynamax_gradient(model, text),
        "pyro": peers.pyro_gradient(model, text),
    }
    values = {name: float(function()[0]) for name, function in functions.items()}
    for value in values.values():
        assert value == pytest.approx(values["own"], rel=1e-4)
    seconds = measure.side_by_side(functions, rounds=3)
    report(what="gradient", dtype="float32", shape=shape, seconds=seconds, aim=aim, aim_pyro=aim_pyro)
    print(f"\n{shape}: dynamax/own {measure.ratio(seconds, 'dynamax'):.2f} (aim {aim}),", end=" ")
    print(f"Pyro/own {measure.ratio(seconds, 'pyro'):.1f} (aim {aim_pyro})")
    assert measure.ratio(seconds, "dynamax") > 1


def test_evidence_alone_is_cheaper_than_smoothing():
    model, text = problem((5000, 128, 30, 10), torch.float32)
    functions = {"own": lambda: log_likelihood(model, text), "smoothing": lambda: posterior(model, text)}
    seconds = measure.side_by_side(functions)
    report(what="evidence", dtype="float32", shape=(5000, 128, 30, 10), seconds=seconds, aim=1.7)
    print(f"\nsmoothing/evidence {measure.ratio(seconds, 'smoothing'):.2f} (aim 1.7)")
    assert measure.ratio(seconds, "smoothing") > 1.7


def test_cost_is_linear_in_texts_and_length():
    model, text = problem((100_000, 100, 8, 10), torch.float32)
    sizes = [1000, 10_000, 100_000]
    for what, cut in {
        "texts": lambda size: text[:size],
        "length": lambda size: text.reshape(100, -1)[:, :size],
    }.items():
        functions = {str(size): functools.partial(posterior, model, cut(size)) for size in sizes}
        seconds = measure.side_by_side(functions)
        medians = [statistics.median(seconds[str(size)]) for size in sizes]
        slope = np.polyfit(np.log(sizes), np.log(medians), 1)[0]
        report(what=f"slope in {what}", dtype="float32", sizes=sizes, seconds=seconds, aim=1)
        print(f"\nslope in {what}: {slope:.2f}")
        assert abs(slope - 1) < 0.1


def test_many_states_are_near_the_products():
    n_texts, length, n_states, vocabulary_size = 64, 128, 4096, 10_000
    stream = torch.Generator().manual_seed(0)
    model = [
        torch.rand(1, *shape, generator=stream).add_(0.01)
        for shape in [(n_states,), (n_states, n_states), (vocabulary_size, n_states)]
    ]
    initial, transition, table = model[0] / n_states, model[1] / model[1].sum(-1, keepdim=True), model[2] / 5000
    ids = torch.randint(vocabulary_size, (1, n_texts, length), generator=stream)
    law, out = torch.rand(n_texts, n_states), torch.empty(n_texts, n_states)

    def products():
        for _ in range(length):
            torch.mm(law, transition[0], out=out)
            torch.mm(law, transition[0].T, out=out)

    functions = {"own": lambda: chain.forward_backward(initial, transition, table, ids, range(length)), "mm": products}
    seconds = measure.side_by_side(functions, rounds=2)
    report(what="smoothing", dtype="float32", shape=(n_texts, length, n_states, vocabulary_size), seconds=seconds)
    print(f"\nown/products {1 / measure.ratio(seconds, 'mm'):.2f} (aim 1.3)")
    assert measure.ratio(seconds, "mm") > 1 / 1.3
