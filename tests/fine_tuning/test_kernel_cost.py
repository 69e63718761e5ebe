"""What tangent kernels of 10⁵ parameters cost, in processor time and memory."""

import subprocess
import sys
import time

import pytest
import torch
from peak_memory import CODE
from torch.nn.attention import SDPBackend, sdpa_kernel

from ppl_hmm import TransformerLM
from ppl_hmm.fine_tuning.functions import ScoreFunction
from ppl_hmm.fine_tuning.kernel import kernel_of
from ppl_hmm.fine_tuning.readouts import ClozeHead

pytestmark = pytest.mark.slow

OF_512 = """
import time, torch
torch.set_num_threads(1)
from ppl_hmm import TransformerLM, tangent_kernel
from ppl_hmm.fine_tuning.readouts import ClozeHead
lm = TransformerLM(10, longest=21, seed=0)
assert sum(part.numel() for part in lm.parameters()) > 1e5
tokens = torch.randint(0, 10, (512, 20), generator=torch.Generator().manual_seed(0))
tangent_kernel(lm, tokens[:2], read=ClozeHead([0, 1]))
started = time.process_time()
tangent_kernel(lm, tokens, read=ClozeHead([0, 1]), kind="sign")
print(time.process_time() - started, peak())
"""


def test_a_kernel_of_512_examples_takes_less_than_a_minute_and_two_gigabytes():
    done = subprocess.run([sys.executable, "-c", CODE + OF_512], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    assert seconds < 60
    assert peak < 2000


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch, on the first tangent
def test_per_example_gradients_are_ten_times_as_fast_as_tangent_products():
    """One column K(·, x′) = J ∇f(x′) after another, by forward mode: what needs no memory for gradients."""
    lm, n = TransformerLM(10, longest=21, seed=0), 64
    tokens = torch.randint(0, 10, (n, 20), generator=torch.Generator().manual_seed(0))
    function = ScoreFunction.of(lm, ClozeHead([0, 1]), "all")
    start, few = function.space.start, 4

    def columns():
        for example in tokens[:few]:
            leaves = {name: part.clone().requires_grad_() for name, part in start.items()}
            gradient = torch.autograd.grad(
                function.apply(leaves, example[None]).sum(), list(leaves.values()), materialize_grads=True
            )
            tangents = dict(zip(start, gradient, strict=True))
            yield torch.func.jvp(lambda z: function.apply(z, tokens)[:, 0], (start,), (tangents,))[1]

    kernel_of(function, tokens[:2], None, "sgd")
    started = time.process_time()
    kernel = kernel_of(function, tokens, None, "sgd")
    by_gradients, started = time.process_time() - started, time.process_time()
    with sdpa_kernel(SDPBackend.MATH):
        found = torch.stack(list(columns()), 1)
    by_tangents = (time.process_time() - started) * n / few
    torch.testing.assert_close(found, kernel[:, :few], rtol=1e-3, atol=1e-3 * float(kernel.max()))
    assert by_tangents > 10 * by_gradients
