"""The first call of each kind imports no compiler and no computer algebra: they take seconds.

Nor does a process that leaves the cells of a figure to others import what computes them.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ppl_hmm.base.records import broadcast_shapes
from ppl_hmm.models import HMM
from ppl_hmm.recoverability import identifiability
from ppl_hmm.recoverability.token_laws import arrays_of, triple_law_of
from ppl_hmm.regimes import random_hmm

CALLS = """
import sys
from ppl_hmm import head_vs_prompt, memory_vs_vanilla
print("figures", *({"torch", "sklearn"} & set(sys.modules)), sep=": ")
from ppl_hmm import *
from ppl_hmm.recoverability.identifiability import pair_spectrum, triple_spectrum

model, task = example("degenerate")
calls = {
    "audit": lambda: audit(*example("aliased"), length=4, seed=0),
    "audit of a memory": lambda: audit(*example("memory"), length=4, seed=0, n_sequences=50),
    "spectra": lambda: (pair_spectrum(model), triple_spectrum(model)),
    "distributions": lambda: HMM.from_discrete_hmm(model.to_discrete_hmm()),
    "prompted": lambda: OracleLM(model).encode([[0, 1]]).conditionals(torch.ones(3, 1, model.n_states)),
}
import torch
for name, call in calls.items():
    call()
    print(name, *({"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)), sep=": ")
"""


def test_first_calls_import_nothing_heavy():
    process = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, timeout=300)
    assert process.stderr == ""
    expected = ["figures", "audit", "audit of a memory", "spectra", "distributions", "prompted"]
    assert process.stdout.splitlines() == expected


@pytest.mark.parametrize("shapes", [((),), ((2, 1), (3,)), ((1,), (4, 1, 5), (2, 1)), (torch.Size((3,)), [1])])
def test_shapes_broadcast_as_in_torch(shapes):
    ours = broadcast_shapes(*shapes)
    assert isinstance(ours, torch.Size)
    assert ours == torch.broadcast_shapes(*shapes)


def test_the_jacobian_is_that_of_torch():
    """More probabilities than one backward pass takes, and zeros among the parameters."""
    for model in (
        random_hmm("wei2021", 3, 7, 0),
        random_hmm("dirichlet", 4, 2, 1),
        HMM([1.0, 0.0], np.eye(2), [[1.0, 0, 0], [0, 0.5, 0.5]]),
    ):
        arrays = arrays_of(model)
        directions = identifiability._tangent(model.n_states, model.vocabulary_size, "free")
        law = triple_law_of
        ours = identifiability._jacobian(law, arrays, directions, model.vocabulary_size**3)
        theirs = torch.func.jacrev(law, argnums=(0, 1, 2))(*arrays)
        expected = [j.flatten(0, 2).flatten(1) @ d.flatten(0, -2) for j, d in zip(theirs, directions, strict=True)]
        np.testing.assert_allclose(ours, torch.cat(expected, 1), rtol=0, atol=1e-15)
