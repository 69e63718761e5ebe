"""An experiment of a user's own: what it computes is known beforehand, and is computed at once."""

import dataclasses
import sys
import time

import numpy as np

from ppl_hmm.experiments import Axis, Settings, run_experiment


@dataclasses.dataclass(frozen=True)
class Shifted(Settings):
    experiment = "shifted"

    states: tuple[int, ...] = (3, 4)
    n_seeds: int = 7
    shift: float = 0.25
    pause: float = 0.0

    def axes(self):
        return (Axis("n_states", self.states, label="states"),)

    def cost(self, cell):
        return cell["n_states"]


def compute(settings, cell):
    """n_states/100 + seed/1000 + shift, for one approach, and half of it for the other."""
    time.sleep(settings.pause)
    values = cell["n_states"] / 100 + np.array(cell.seeds) / 1000 + settings.shift
    return {
        "accuracy": (("approach", "seed"), [values, values / 2], {"units": "1"}),
        "approach": ("approach", ["head", "prompt"]),
    }


def expected(n_states, seed, shift=0.25):
    return n_states / 100 + seed / 1000 + shift


def run(out, *, shift=0.25, pause=0.0, **options):
    return run_experiment(Shifted(shift=shift, pause=pause), compute, out, **{"workers": 1, **options})


if __name__ == "__main__":
    try:
        run(sys.argv[1], shift=float(sys.argv[2]), pause=float(sys.argv[3]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
