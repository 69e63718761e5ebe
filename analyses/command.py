"""What the analyses share: their command line, and where figure and numbers go."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import xarray as xr
from matplotlib.figure import Figure

from ppl_hmm.plots.style import save
from ppl_hmm.storage import netcdf


def arguments(description: str, name: str) -> argparse.Namespace:
    """Return ``out``, ``smoke`` and ``seed``, read from the command line."""
    torch.set_num_threads(1)  # steps are small: threads would wait for each other longer than they work
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("results", name), help="directory of the files")
    parser.add_argument("--smoke", action="store_true", help="small sizes, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the first model; the others count on from it")
    return parser.parse_args()


def write(figure: Figure, numbers: xr.Dataset | xr.DataTree, out: Path, name: str) -> None:
    """Write the figure as PNG and SVG and the numbers as netCDF into ``out``, and say where."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [*save(figure, out / name), out / f"{name}.nc"]
    netcdf.write(numbers, paths[-1])
    print("\nwritten:", *paths)
