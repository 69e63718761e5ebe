"""Explicit randomness: one seed, one independent stream for each purpose."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from ppl_hmm.errors import InvalidInput

Seed = int | torch.Generator

#: Where streams are drawn, and where arrays begin that no parameter places: never PyTorch's default device.
CPU = torch.device("cpu")

_SEEDS = 2**63  # what files can hold


def generator(seed: Seed, purpose: str) -> torch.Generator:
    """Return the CPU generator of ``(seed, purpose)``; a ``torch.Generator`` passes through.

    The purpose separates streams: a model, its task and its text drawn from the same integer seed are independent.
    The same pair always gives the same stream, whatever else was drawn before.
    """
    if isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < _SEEDS:
        raise InvalidInput(
            "seed", "a non-negative integer below 2⁶³ or a torch.Generator", repr(seed), "pass e.g. seed=0"
        )
    entropy = np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())])
    return torch.Generator(CPU).manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))


def categorical(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an index from each row of non-negative ``weights`` (…, K), not necessarily normalised.

    Inverse transform sampling; an entry of weight zero is never drawn. Uniforms come from the CPU generator, so
    that a device changes nothing. A row of zeros gives index 0.
    """
    cumulative = weights.cumsum(-1)
    total = cumulative[..., -1:]
    uniform = torch.rand(total.shape, generator=generator, dtype=weights.dtype, device=CPU).to(weights.device)
    # Rounding may bring uniform·total up to the total itself, past the last entry.
    threshold = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    index = (cumulative <= threshold).sum(-1)
    return torch.where(total[..., 0] > 0, index, 0)
