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

    ``sums`` (R·N,) are the partial sums of each law's weights, not necessarily normalised, and infinite from its last
    entry of positive weight on; N is a power of two. ``totals`` (R,) are the sums of all weights.
    """

    sums: torch.Tensor
    totals: torch.Tensor

    @classmethod
    def of(cls, weights: torch.Tensor) -> Laws:
        """Return the laws of weights (R,K). Summed on the CPU, so that a device changes nothing."""
        sums, totals = _partial_sums(weights.cpu())
        n_entries = sums.shape[-1]
        padded = torch.nn.functional.pad(sums, (0, (1 << (n_entries - 1).bit_length()) - n_entries), value=torch.inf)
        return cls(padded.flatten().to(weights.device), totals.to(weights.device))

    def draw(self, laws: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw an index from each of the laws numbered by ``laws`` (any shape), as :func:`categorical` does.

        Cost O(draws·log K) time, O(draws) memory.
        """
        size = len(self.sums) // len(self.totals)
        threshold = _uniform(laws.shape, self.sums, generator) * _at(self.totals, laws)
        before = laws * size - 1
        place = before.clone()  # of the last sum that is not above the threshold, by bisection
        for bit in reversed(range(size.bit_length() - 1)):
            place.add_(_at(self.sums, place + (1 << bit)) <= threshold, alpha=1 << bit)
        return place - before


def categorical(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw an index from each row of non-negative ``weights`` (…, K), not necessarily normalised.

    Inverse transform sampling; an entry of weight zero is never drawn. Uniforms come from the CPU generator, so
    that a device changes nothing. A row of zeros gives index 0.
    """
    sums, totals = _partial_sums(weights)
    return (sums <= (_uniform(totals.shape, weights, generator) * totals)[..., None]).sum(-1)


def _partial_sums(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return partial sums (…,K), infinite from the last positive entry on, and the totals (…).

    So an index is at most that entry: rounding may bring a uniform draw of [0, total) up to the total.
    """
    sums = weights.cumsum(-1)
    totals = sums[..., -1]
    return torch.where(sums < totals[..., None], sums, torch.inf), totals


def _uniform(shape: torch.Size, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator, dtype=like.dtype, device=CPU).to(like.device)


def _at(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return entries of values (n,) by their places (any shape); of torch's ways, the one that wakes no threads."""
    return values.index_select(0, places.reshape(-1)).view(places.shape)
