"""Names of states and tokens in results: labelled posteriors, audits and their figures."""

import numpy as np
import pytest
import torch
import xarray as xr

from ppl_hmm import HMM, audit, example, open_audit, posterior
from ppl_hmm.audits.figures import catalogue, model_data

TOKENS = ("good", "bad", "so-so")


def named(name="aliased"):
    model, task = example(name)
    states = tuple(f"mood {number}" for number in range(model.n_states))
    tokens = TOKENS if model.vocabulary_size == 3 else tuple(f"w{n}" for n in range(model.vocabulary_size))
    return model.assign_names(state=states, token=tokens), task


def test_a_posterior_is_labelled():
    model, _ = named()
    found = posterior(model, [[0, 1, 2], [2, 1]])
    dataset = found.to_dataset()
    assert dict(dataset.sizes) == {"sequence": 2, "position": 3, "state": model.n_states}
    assert dataset["smoothed"].sel(state="mood 1").values.tolist() == found.smoothed[..., 1].tolist()
    assert dataset["log_evidence"].attrs["units"] == "nats"
    batch = posterior(HMM.stack([model, model]), [[0, 1]]).to_dataset()
    assert batch["initial"].dims == ("model", "sequence", "state")
    remembering, _ = example("memory")
    kept = remembering.assign_names(memory_value=("good", "bad"))
    of_memory = posterior(kept, [[0, 3, 0]]).to_dataset()["memory"]
    assert of_memory.sel(memory_value="good", cell=0).item() == pytest.approx(2 / 3)
    assert "state" not in posterior(example("aliased")[0], [[0]]).to_dataset().coords


@pytest.mark.parametrize("name", ["aliased", "degenerate", "memory"])
def test_an_audit_names_states_and_tokens(name, tmp_path):
    model, task = named(name)
    tree = audit(model, task, length=4, n_sequences=60, seed=0, n_prompt_tokens=0)
    plain = audit(example(name)[0], task, length=4, n_sequences=60, seed=0, n_prompt_tokens=0)
    for node in tree.subtree:
        dataset, before = node.to_dataset(), plain[node.path].to_dataset()
        for dimension, entries in (("state", "state"), ("other_state", "state"), ("token", "token")):
            if dataset.sizes.get(dimension) == len(model.names[entries]):
                assert tuple(dataset[dimension].values) == model.names[entries]
        labelled = ("state", "state_next", "other_state", "token")
        bare, before = (each.drop_vars(labelled, errors="ignore") for each in (dataset, before))
        xr.testing.assert_equal(bare, before)
    if name == "memory":
        assert tree["recoverability/attention"]["state"].values.tolist() == ["mood 1"]
    tree.to_netcdf(tmp_path / "audit.nc")
    again = open_audit(tmp_path / "audit.nc")
    assert again.ppl_hmm.report() == tree.ppl_hmm.report()
    assert set(catalogue.available(again)) == set(catalogue.available(plain))


def test_figures_name_the_values_of_what_is_asked():
    model, task = named()
    tree = audit(model, task, length=4, seed=0, n_prompt_tokens=0)
    ticks = [label.get_text() for label in catalogue.draw_audit("linear-map", tree).axes[1].get_xticklabels()]
    assert ticks == list(model.names["state"])
    if model.n_states == 3:
        written = {text.get_text() for text in catalogue.draw_audit("simplex", tree).axes[0].texts}
        assert set(model.names["state"]) <= written
    assert "latent" not in model_data.linear_map(audit(*example("aliased"), length=4, seed=0)).coords


def test_names_do_not_change_numbers():
    model, _ = named()
    plain = example("aliased")[0]
    text = [[0, 2, 1]]
    assert torch.equal(posterior(model, text).smoothed, posterior(plain, text).smoothed)
    assert np.array_equal(posterior(model, text).to_dataset()["smoothed"], posterior(plain, text).smoothed)
