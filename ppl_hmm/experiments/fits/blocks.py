"""Cut a corpus into blocks, and hold some of them out at random: a tail would drift from the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.corpus.units import Unit, join, split
from ppl_hmm.errors import InvalidInput

#: Tokens of a block.
BLOCK_LENGTHS: dict[str, int] = {"char": 400, "word": 100}


def cut(texts: Iterable[str], unit: Unit) -> list[str]:
    """Return texts in blocks of :data:`BLOCK_LENGTHS` tokens; the last of each text may be shorter."""
    length = BLOCK_LENGTHS[unit]
    parts = [split(text, unit) for text in texts]
    return [join(each[start : start + length], unit) for each in parts for start in range(0, len(each), length)]


def hold_out(blocks: list[str], share: float, seed: Seed) -> tuple[list[str], list[str]]:
    """Return the blocks to learn from, and a share of them, drawn at random, to test on; both in order.

    Raises
    ------
    InvalidInput
        A share that is not between 0 and 1, or that leaves either without a block.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise InvalidInput("share of text to hold out", "a number between 0 and 1", repr(share), "pass e.g. 0.1")
    n_held = max(1, round(share * len(blocks)))
    if n_held >= len(blocks):
        got = f"{len(blocks)} blocks"
        raise InvalidInput("text to hold some out of", "more blocks of it", got, "use more text, or a smaller share")
    order = torch.randperm(len(blocks), generator=generator(seed, "held-out blocks"), device=CPU)
    held = set(order[:n_held].tolist())
    return [b for n, b in enumerate(blocks) if n not in held], [b for n, b in enumerate(blocks) if n in held]
