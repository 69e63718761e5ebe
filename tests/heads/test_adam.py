"""Our Adam is torch's, bit for bit on the CPU."""

import torch

from ppl_hmm.heads.adam import Adam


def test_steps_are_those_of_torch():
    start = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (0, 1)]
    ours = [part.clone().requires_grad_() for part in start]
    theirs = [part.clone().requires_grad_() for part in start]
    own, reference = Adam(ours, 0.3), torch.optim.Adam(theirs, lr=0.3)
    for step in range(50):
        own.step(torch.autograd.grad(sum((part - step).pow(4).sum() for part in ours), ours))
        reference.zero_grad()
        sum((part - step).pow(4).sum() for part in theirs).backward()
        reference.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
