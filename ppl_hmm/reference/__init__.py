"""Published numbers, shipped with the package.

``wei2021_figure3.csv``: Wei, Xie & Ma (NeurIPS 2021, arXiv 2106.09226), Figure 3, decoded from the released vector
figures: mean accuracy in percent and half-width of the plotted interval, for a transformer trained on samples.
"""

from __future__ import annotations

import csv
from importlib import resources
from typing import Literal

import numpy as np
import xarray as xr

from ppl_hmm import schema

_SOURCE = "Wei, Xie & Ma (NeurIPS 2021), arXiv 2106.09226, Figure 3 ({panel}), decoded from the released vector figure"


def published(panel: Literal["left", "right"]) -> xr.Dataset:
    """Return a panel of the paper's Figure 3: ``accuracy`` and ``half_width`` (approach, n_states), both in [0, 1]."""
    text = resources.files(__name__).joinpath("wei2021_figure3.csv").read_text()
    rows = [row for row in csv.DictReader(text.splitlines()) if row["panel"] == panel]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    sizes = sorted({int(row["n_states"]) for row in rows})
    values = {name: np.full((len(methods), len(sizes)), np.nan) for name in ("accuracy", "half_width")}
    for row in rows:
        where = methods.index(row["method"]), sizes.index(int(row["n_states"]))
        for name, array in values.items():
            array[where] = float(row[f"{name}_percent"]) / 100
    return xr.Dataset(
        {name: ((schema.APPROACH, schema.N_STATES), array) for name, array in values.items()},
        coords={schema.APPROACH: methods, schema.N_STATES: sizes},
        attrs={"source": _SOURCE.format(panel=panel)},
    )
