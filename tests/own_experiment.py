"""An experiment of a user's own: what it computes is known beforehand, and is computed at once."""

import dataclasses
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import forked
import numpy as np

from ppl_hmm.experiments import Axis, Settings, run_experiment

#: Variable of the environment: the seconds that a cell takes.
PAUSE = "PAUSE_OF_A_CELL"


@dataclasses.dataclass(frozen=True)
class Shifted(Settings):
    experiment = "shifted"

    states: tuple[int, ...] = (3, 4)
    n_seeds: int = 7
    shift: float = 0.25

    def axes(self):
        return (Axis("n_states", self.states, label="states"),)

    def cost(self, cell):
        return cell["n_states"]


def compute(settings, cell):
    """n_states/100 + seed/1000 + shift, for one approach, and half of it for the other."""
    time.sleep(float(os.environ.get(PAUSE, "0")))
    values = cell["n_states"] / 100 + np.array(cell.seeds) / 1000 + settings.shift
    return {
        "accuracy": (("approach", "seed"), [values, values / 2], {"units": "1"}),
        "approach": ("approach", ["head", "prompt"]),
    }


def expected(n_states, seed, shift=0.25):
    return n_states / 100 + seed / 1000 + shift


def run(out, *, shift=0.25, **options):
    return run_experiment(Shifted(shift=shift), compute, out, **{"workers": 1, **options})


def start(out, *, shift=0.25, pause, workers=1):
    """Run it in another process, alone in its session."""
    return subprocess.Popen(
        [sys.executable, __file__, str(out), str(shift), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {PAUSE: str(pause)},
    )


def run_at_once(out, *shifts):
    """Run it in as many processes as there are shifts, at the same time; return how each ended."""
    code = f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import own_experiment; own_experiment.main()"
    with ThreadPoolExecutor(len(shifts)) as starts:
        ends = [starts.submit(forked.run, code, out, shift, 1, environment={PAUSE: "0.1"}) for shift in shifts]
    return [end.result() for end in ends]


def main():
    try:
        out, shift, workers = sys.argv[1:]
        run(out, shift=float(shift), workers=int(workers))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
