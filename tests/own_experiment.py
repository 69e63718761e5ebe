"""An experiment of a user's own: what it computes is known beforehand, and is computed at once."""

import dataclasses
import sys
import time
from typing import ClassVar

import numpy as np

from ppl_hmm.experiments.engine.cells import Answer, gather
from ppl_hmm.experiments.engine.grid import Extent, Settings
from ppl_hmm.experiments.engine.runner import reproduce


@dataclasses.dataclass(frozen=True)
class Shifted(Settings):
    experiment: ClassVar[str] = "shifted"
    title: ClassVar[str] = "A straight line."
    panel: ClassVar[str] = "left"
    figure: ClassVar[Extent] = Extent((3, 4), 7, {})
    smoke: ClassVar[Extent] = figure
    smallest: ClassVar[int] = 2

    shift: float = 0.25
    pause: float = 0.0


def compute(settings, cell):
    """n_states/100 + seed/1000 + shift, for one approach, and half of it for the other."""
    time.sleep(settings.pause)
    values = cell.n_states / 100 + np.array(cell.seeds) / 1000 + settings.shift
    return gather(cell, [Answer("head", values), Answer("prompt", values / 2)], np.zeros(len(cell.seeds)))


def expected(n_states, seed, shift=0.25):
    return n_states / 100 + seed / 1000 + shift


def run(out, **options):
    return reproduce(Shifted, compute, *Shifted.figure[:2], out, **{"workers": 1, **options})


if __name__ == "__main__":
    try:
        run(sys.argv[1], shift=float(sys.argv[2]), pause=float(sys.argv[3]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
