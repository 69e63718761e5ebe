"""The page on own experiments: its code runs, stops, continues, and shows what its sentences say."""

import re
from pathlib import Path

import numpy as np
import pytest

from ppl_hmm import open_results
from ppl_hmm.regimes.registry import HMM_REGIMES

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-experiment.md"
CELLS = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page defines, and where its code ran."""
    out, names = tmp_path_factory.mktemp("page"), {"__name__": "own_experiment_page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        patch.setattr(HMM_REGIMES, "_functions", dict(HMM_REGIMES._functions))  # the page adds one
        for cell in CELLS:
            exec(compile(cell, str(PAGE), "exec"), names)
    return out, names


def test_the_definition_is_about_thirty_lines():
    assert len([line for line in CELLS[0].splitlines() if line.strip()]) <= 30


def test_axes_and_columns_are_those_of_the_page(page):
    results = page[1]["tree"]["results"].to_dataset()
    assert results["recoverable"].dims == results["sigma_min"].dims == ("vocabulary_size", "concentration", "seed")
    assert results["vocabulary_size"].values.tolist() == [3, 5, 6, 8]
    assert results["concentration"].values.tolist() == [0.1, 1.0]
    assert results["recoverable"].dtype == np.int8


def test_the_numbers_are_what_the_page_says(page):
    results = page[1]["tree"]["results"].to_dataset()
    share = results["recoverable"].mean("seed").sel(concentration=1.0)
    assert (share.sel(vocabulary_size=[3, 5]) < 0.5).all()
    assert (share.sel(vocabulary_size=[6, 8]) == 1).all()


def test_the_stopped_run_was_continued(page):
    out, names = page
    assert names["again"]["results"].to_dataset().identical(names["tree"]["results"].to_dataset())
    assert open_results(out / "stopped").identical(names["again"])
    assert not (out / "new").exists()
