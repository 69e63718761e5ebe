"""The audit of a fit: what forbids to believe it comes first, and no verdict stands without its budget."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from fits_of_draws import dirichlet, fit_of

from ppl_hmm import (
    HMM,
    InvalidInput,
    PosteriorTask,
    audit,
    fit_bayes,
    next_token_class,
    open_audit,
    random_hmm,
    sample,
    validate,
)
from ppl_hmm.audits.over_posterior.audit import audit_fit
from ppl_hmm.audits.over_posterior.figures import FIT_FIGURES
from ppl_hmm.audits.over_posterior.report import as_json
from ppl_hmm.cli import main

TASK = next_token_class([0])
SMALL = {"n_texts": 10, "n_draws": 8, "seed": 0}


def near(model, n_draws, seed):
    """Models near another."""
    noise = dirichlet(n_draws, seed=seed)
    return [0.97 * getattr(model, name) + 0.03 * getattr(noise, name) for name in HMM.dimensions]


def of_two(first, second):
    """A fit whose two chains stay near two models."""
    pairs = zip(near(first, 10, 1), near(second, 10, 2), strict=True)
    return fit_of(HMM(*(torch.cat(pair) for pair in pairs)), dirichlet(60, seed=3))


@pytest.fixture(scope="module")
def stuck():
    flat = HMM(torch.full((3,), 1 / 3), torch.full((3, 3), 1 / 3), torch.full((3, 4), 0.25)).to(torch.float64)
    return of_two(random_hmm("dirichlet", 3, 4, seed=5), flat)


def test_chains_that_do_not_agree_are_named_before_any_answer(stuck):
    tree = audit_fit(stuck, TASK, **SMALL)
    validate(tree)
    lines = tree.ppl_hmm.report(width=1000).splitlines()
    assert lines[0].startswith("WARNING: the chains did not converge: R-hat of")
    assert lines[1].startswith("- a linear head: probability of a half-range")
    rhat = tree["convergence/rhat"]
    assert rhat.max() > 1.5
    assert f"{rhat.max().item():.3f}" in lines[0]
    given = stuck.copy()
    given["mixing"] = xr.Dataset({"rhat": ("quantity", [1.0, 1.0])}, {"quantity": rhat["quantity"]})
    for agreement, n_warnings in {"mixed": 0, "different modes": 1}.items():  # what the fit says itself is believed
        given["mixing"].attrs = {"agreement": agreement, "summary": "Two modes."}
        warnings = audit_fit(given, TASK, **SMALL).ppl_hmm.warnings
        assert len(warnings) == n_warnings
        assert all(line.startswith("WARNING: Two modes. What follows is said of these draws") for line in warnings)


def test_one_chain_cannot_tell_and_draws_of_a_guide_are_not_believed():
    single = fit_of(dirichlet(8), chains=1)
    assert "cannot tell" in audit_fit(single, TASK, **SMALL).ppl_hmm.warnings[0]
    single.attrs["method"] = "svi"
    assert "variational" in audit_fit(single, TASK, **SMALL).ppl_hmm.warnings[0]


def test_a_text_that_tells_nothing_leaves_the_prior_and_the_report_says_so_with_numbers():
    flat = fit_of(dirichlet(200, seed=1), dirichlet(200, seed=2))
    tree = audit_fit(flat, TASK, **SMALL)
    (warning,) = tree.ppl_hmm.warnings
    assert "the posterior is nearly the prior" in warning
    assert "18 tokens" in warning
    distance = tree["convergence/prior_distance"].sel(quantity="sigma_min").item()
    both = [np.sort(flat[group]["sigma_min"].values.ravel()) for group in ("posterior", "prior")]
    every = np.concatenate(both)
    expected = np.abs(np.subtract(*(np.searchsorted(each, every, side="right") / 200 for each in both))).max()
    assert distance == pytest.approx(expected)
    assert f"{distance:.2f} for σ_min(W)" in warning


def test_a_truth_of_low_rank_is_never_called_recoverable_without_a_budget():
    truth = random_hmm("degenerate", 3, 4, seed=0, rank=2)
    fit = fit_bayes(sample(truth, 40, 15, seed=0).tokens, 3, method="gibbs", chains=2, draws=40, tune=20, seed=0)
    tree = audit_fit(fit, TASK, **SMALL)
    assert tree.ppl_hmm.verdict["head"]["recoverable"] > 0.9  # full rank almost surely: of no account
    told = [line for line in tree.ppl_hmm.report(width=1000).splitlines() if "recoverable" in line]
    assert told
    assert all("nothing without a budget" in line for line in told)


def test_round_trip_summary_json_and_figures(stuck, tmp_path):
    tree = audit_fit(stuck, TASK, **SMALL)
    summary = tree.ppl_hmm.summary()
    assert list(summary.index) == ["head", "masks"]
    plain = json.loads(json.dumps(as_json(tree), allow_nan=False))
    assert plain["warnings"] == tree.ppl_hmm.warnings
    tree.to_netcdf(tmp_path / "audit.nc", engine="h5netcdf")
    again = open_audit(tmp_path / "audit.nc")
    assert again.ppl_hmm.report() == tree.ppl_hmm.report()
    for name in FIT_FIGURES:
        assert again.ppl_hmm.plot(name).axes
    with pytest.raises(InvalidInput, match="budgets"):
        again.ppl_hmm.plot("margins")


def test_the_command_audits_a_fit(stuck, tmp_path, capsys):
    fit = tmp_path / "fit.nc"
    fit_of(dirichlet(8)).to_netcdf(fit, engine="h5netcdf")
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(fit), "--next-tokens", "0,1", "--out", str(tmp_path / "out")])
    assert not ended.value.code
    assert "WARNING" in capsys.readouterr().out.splitlines()[0]
    assert {"report.txt", "audit.nc", "budgets.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    for wrong in (["--task", "task.nc"], ["--word", "1", "--next-tokens", "0"], ["--word", "9"], ["--length", "3"]):
        with pytest.raises(SystemExit) as ended:
            main(["audit", str(fit), *wrong])
        assert ended.value.code == 2
    (tmp_path / "zarr").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(tmp_path / "zarr")])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (PosteriorTask([[0, 0, 0], [1, 0, -1]]), {}, "function from a model"),
        (TASK, {"length": 10}, "length"),
        (TASK, {"tokens": [[0]]}, "tokens"),
        (TASK, {"reader": "causal"}, "reader"),
    ],
)
def test_bad_input(task, options, message):
    with pytest.raises(InvalidInput, match=message):
        audit(fit_of(dirichlet(4)), task, seed=0, **options)
    with pytest.raises(InvalidInput, match="/posterior"):
        audit_fit(xr.DataTree(), TASK, seed=0)
