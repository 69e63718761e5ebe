"""Explicit randomness: one seed, one independent stream for each purpose."""

from __future__ import annotations

import dataclasses
import math
import zlib

import numpy as np
import torch

from ppl_hmm.errors import InvalidInput

Seed = int | torch.Generator

#: Where streams are drawn, and where arrays begin that no parameter places: never PyTorch's default device.
CPU = torch.device("cpu")

#: Numbers that are drawn at once, at most: 8 TiB.
LARGEST_DRAW = 1 << 40

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


def derived_seed(seed: int, purpose: str) -> int:
    """Return an integer seed for all that is drawn again for a purpose."""
    return int(torch.randint(_SEEDS - 1, (), generator=generator(seed, purpose), device=CPU))


def require_room(what: str, *sizes: int) -> None:
    """Raise :class:`InvalidInput` for arrays of these sizes with more than :data:`LARGEST_DRAW` entries."""
    if math.prod(sizes) > LARGEST_DRAW:
        got = " · ".join(map(str, sizes))
        raise InvalidInput(what, f"at most {LARGEST_DRAW} numbers at once", got, "draw fewer, several times")


@dataclasses.dataclass(frozen=True)
class Laws:
    """Laws to draw from by number, any times: no draw copies its law.

    ``sums`` (R·K,) are the partial sums of each law's weights, not necessarily normalised; ``largest`` (R,) what a
    threshold for them can be at most.
    """

    sums: torch.Tensor
    largest: torch.Tensor

    @classmethod
    def of(cls, weights: torch.Tensor) -> Laws:
        """Return the laws of weights (R,K); a row of zeros gives 0. Summed on the CPU: a device changes nothing."""
        sums = weights.cpu().cumsum(-1)
        sums = torch.where(sums[:, -1:] > 0, sums, 1)
        return cls(sums.flatten().to(weights.device), _below(sums[:, -1]).to(weights.device))

    def draw(self, laws: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw an index from each of the laws numbered by ``laws`` (any shape), as :func:`categorical` does.

        Cost O(draws·log K) time, O(draws) memory.
        """
        n_entries = len(self.sums) // len(self.largest)
        before = laws * n_entries - 1
        uniform = torch.rand(laws.shape, generator=generator, dtype=self.sums.dtype, device=CPU).to(laws.device)
        threshold = torch.minimum(uniform * _at(self.sums, before + n_entries), _at(self.largest, laws))
        # How many partial sums are not above the threshold, by bisection; one at least is.
        index = torch.zeros_like(laws)
        for bit in reversed(range((n_entries - 1).bit_length())):
            further = (index + (1 << bit)).clamp_(max=n_entries - 1)
            index = torch.where(_at(self.sums, before + further) <= threshold, further, index)
        return index


def _at(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return entries of values (n,) by their places (any shape); of torch's ways, the one that wakes no threads."""
    return values.index_select(0, places.reshape(-1)).view(places.shape)


def categorical(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an index from each row of non-negative ``weights`` (…, K), not necessarily normalised.

    Inverse transform sampling; an entry of weight zero is never drawn. Uniforms come from the CPU generator, so
    that a device changes nothing. A row of zeros gives index 0.
    """
    cumulative = weights.cumsum(-1)
    total = cumulative[..., -1]
    uniform = torch.rand(total.shape, generator=generator, dtype=total.dtype, device=CPU).to(total.device)
    threshold = torch.minimum(uniform * total, _below(total))
    index = (cumulative <= threshold[..., None]).sum(-1)
    return torch.where(total > 0, index, 0)


def _below(total: torch.Tensor) -> torch.Tensor:
    """Return the float below each total: rounding may bring a uniform draw of [0, total) up to it."""
    return torch.nextafter(total, torch.zeros_like(total))
