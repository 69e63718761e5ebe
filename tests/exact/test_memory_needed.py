"""How much memory inference and sampling take at sizes that users bring: peak resident size in a process of its own."""

import forked
import peak_memory
import pytest

PEAK = """
import sys
import numpy as np
import torch
from ppl_hmm import HMM, MemoryHMM, log_likelihood, masked_conditionals, posterior, sample, sample_posterior

rng = np.random.default_rng(0)


def rows(*shape):
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def with_memories(n_cells, n_tokens=10):
    '''Most emissions are exactly zero, so that most memories are impossible or near it.'''
    emission = rows(3, 8, n_tokens) * (rng.random((3, 8, n_tokens)) >= 0.85)
    emission[emission.sum(-1) == 0, 0] = 1
    emission /= emission.sum(-1, keepdims=True)
    return MemoryHMM(rows(n_cells, 3), rows(8), rows(8, 8), np.arange(8) % n_cells, emission)


def with_faint_words():
    emission = rng.random((64, 50257)) + 0.1
    emission[rng.random(emission.shape) < 0.01] = 1e-30
    arrays = rows(64), rows(64, 64), emission / emission.sum(-1, keepdims=True)
    return HMM(*(torch.tensor(array, dtype=torch.float32) for array in arrays))


def gradient(model, text):
    leaves = [getattr(model, name).clone().requires_grad_() for name in ("initial", "transition", "emission")]
    return torch.autograd.grad(log_likelihood(HMM(*leaves), text).sum(), leaves)


compute, model = {
    "memories": (posterior, lambda: with_memories(10)),
    "conditionals": (masked_conditionals, lambda: with_memories(8)),
    "drawn memories": (lambda model, text: sample_posterior(model, text, 1000, seed=0), lambda: with_memories(8, 2000)),
    "words": (posterior, with_faint_words),
    "gradient of words": (gradient, with_faint_words),
}[sys.argv[1]]
model = model()
if isinstance(model, MemoryHMM):
    text = sample(model, 2, 10, seed=0).tokens
else:
    text = rng.integers(50257, size=(256, 20))
compute(model, text)
print(peak())
"""

SAMPLE = """
import numpy as np
from ppl_hmm import HMM, sample

vocabulary = 50257
emission = np.full((2, vocabulary), 1 / vocabulary)
drawn = sample(HMM([0.5, 0.5], np.eye(2), emission), 2_000_000, 1, seed=0)
assert drawn.tokens.shape == (2_000_000, 1)
print(peak())
"""


def peak(code, *arguments):
    """Return the peak resident size in MB, that of the imports included (about 350 MB)."""
    done = forked.run(peak_memory.CODE + code, *arguments)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("computed", ["memories", "conditionals", "drawn memories", "words", "gradient of words"])
def test_a_gigabyte_is_enough(computed):
    assert peak(PEAK, computed) < 1024


def test_two_million_texts_of_a_large_vocabulary_fit_a_gigabyte():
    assert peak(SAMPLE) < 1024
