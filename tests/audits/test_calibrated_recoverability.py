"""Probabilities of recoverability are kept, on average over truths from the prior: two hundred of them."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

SCRIPT = Path(__file__).parents[2] / "analyses" / "09_recoverability_calibration.py"


@pytest.mark.slow  # some minutes
def test_intervals_cover_and_probabilities_happen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr("sys.argv", [str(SCRIPT), "--out", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    with xr.open_dataset(tmp_path / "recoverability-calibration.nc", engine="h5netcdf") as found:
        n_corpora = found.sizes["corpus"]
        for name in ("sigma_min", "half_range"):
            assert 0.84 <= found[f"{name}_covered"].mean() <= 0.95
        said, happened = found["probability"].values, found["happened"].values.astype(float)
        z = (happened - said).sum() / np.sqrt((said * (1 - said)).sum())
        assert abs(z) < 3
        gap = found["cross_draw"] - found["on_truth"]
        assert abs(gap.mean()) < min(0.05, 4 * gap.std() / np.sqrt(n_corpora))
