"""On a GPU, beside a JAX scan as a user of JAX would write it. Only run when asked for by the marker ``gpu``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import peers, problems
from benchmarks.records import OWN, Shape
from ppl_hmm import TransformerLM, posterior
from ppl_hmm.exact import chain
from ppl_hmm.exact.recursion import Chain
from ppl_hmm.language_models.corpora import Corpus
from ppl_hmm.language_models.objectives import Objective
from ppl_hmm.language_models.run import Plan, Run

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # peers may warn of what they import
]


def finished(function):
    """Return the function, which then also waits for the GPU."""

    def run():
        result = function()
        torch.cuda.synchronize()
        return result

    return run


@pytest.mark.parametrize("shape", [Shape(5000, 128, 30, 10), Shape(1, 100_000, 30, 10)], ids=problems.as_id)
def test_smoothing_beside_a_jax_scan(shape, compare):
    model, text = problems.chain(shape, torch.float32)
    there, text_there = model.to(device="cuda"), text.to("cuda")
    functions = {
        OWN: finished(lambda: posterior(there, text_there).smoothed),
        "JAX scan": peers.jax_scan(model, text, "gpu"),
    }
    expected = posterior(model.to(torch.float64), text).smoothed
    np.testing.assert_allclose(functions[OWN]().cpu(), expected, atol=1e-4)
    np.testing.assert_allclose(functions["JAX scan"](), expected, atol=1e-3)
    compare("gpu", "smoothed marginals", model.dtype, shape, functions, faster={"JAX scan": 5})


def test_evidence_of_tens_of_thousands_of_states(compare):
    shape = Shape(256, 128, 32_768, 50_257)
    arrays = problems.large_chain(shape, "cuda")
    law, out = (torch.rand(shape.texts, shape.states, device="cuda") for _ in range(2))

    def products():
        for _ in range(shape.length):
            torch.mm(law, arrays[1][0], out=out)

    few = [*arrays[:3], arrays[3][:, :2, :4]]
    expected = chain.log_evidence(Chain(*(array.cpu() for array in few)))
    np.testing.assert_allclose(chain.log_evidence(Chain(*few)).cpu(), expected, rtol=1e-4)
    functions = {OWN: finished(lambda: chain.log_evidence(Chain(*arrays))), "products": finished(products)}
    compare("gpu", "evidence", torch.float32, shape, functions, within={"products": 1.5})


def test_a_step_of_training_beside_the_cpu(compare):
    shape = Shape(256, 83, 15, 10)
    model, _ = problems.chain(shape, torch.float64)
    corpus = Corpus.of(model, shape.vocabulary, shape.texts, shape.length, seed=0)
    plan = Plan(Objective.TOKENS, 1_000_000, shape.texts, shape.length, 1e-3, seed=0)
    lm = TransformerLM(shape.vocabulary, width=128, layers=4, longest=shape.length, seed=0)
    runs = {OWN: Run(lm.to("cuda"), corpus, plan), "CPU": Run(lm.to("cpu"), corpus, plan)}
    functions = {name: finished(run.advance) for name, run in runs.items()}
    compare("gpu", "training of a transformer", torch.float32, shape, functions)
