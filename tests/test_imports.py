"""``import ppl_hmm`` loads no library; every public name is there, and former import paths lead to it."""

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

import ppl_hmm
from ppl_hmm import _moved

HEAVY = ("arviz", "h5netcdf", "matplotlib", "numpy", "pyro", "rich", "scipy", "sklearn", "torch", "typer", "xarray")


def run(code, tmp_path):
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded(statement, tmp_path):
    code = f"import sys, json\n{statement}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    return json.loads(run(code, tmp_path).splitlines()[-1])


def test_import_loads_no_library(tmp_path):
    assert loaded("import ppl_hmm; dir(ppl_hmm); ppl_hmm.__version__", tmp_path) == []


def test_inference_does_not_load_pyro_or_the_like(tmp_path):
    assert {"pyro", "arviz", "sklearn", "matplotlib"}.isdisjoint(
        loaded("import ppl_hmm; ppl_hmm.posterior; ppl_hmm.HMM; ppl_hmm.sample; ppl_hmm.OracleLM", tmp_path)
    )
    assert "pyro" in loaded("import pyro", tmp_path)  # the question can be answered with yes


@pytest.mark.parametrize("name", ppl_hmm.__all__)
def test_every_public_name_resolves(name):
    value = getattr(ppl_hmm, name)
    assert name in dir(ppl_hmm)
    if name != "MASK":
        assert value.__doc__
        assert value is getattr(importlib.import_module(value.__module__), name)


def test_every_public_name_resolves_in_a_fresh_interpreter(tmp_path):
    code = "import ppl_hmm\nfor name in ppl_hmm.__all__: getattr(ppl_hmm, name)\nprint('all')"
    assert run(code, tmp_path) == "all\n"


def test_other_names_are_attribute_errors():
    assert not hasattr(ppl_hmm, "nope")
    with pytest.raises(AttributeError, match="ppl_hmm attribute nope"):
        _ = ppl_hmm.nope
    with pytest.raises(ImportError):
        importlib.import_module("ppl_hmm.nope")


FORMER = [
    ("parameters", "HMM", "models"),
    ("parameters.memory", "MemoryHMM", "models.memory"),
    ("models.distribution", "CategoricalHMM", "programs.distribution"),
    ("auditing", "audit", "audits.audit"),
    ("diagnostics.concepts", "concept_posterior", "inference.concepts"),
    ("experiments.head_vs_prompt", "head_vs_prompt", "experiments.figure3.head_vs_prompt"),
    ("layout", "validate", "storage.layout"),
    ("text", "MASK", "base.tokens"),
]


@pytest.mark.filterwarnings("ignore:ppl_hmm.diagnostics has moved")
@pytest.mark.parametrize(("old", "name", "new"), FORMER, ids=[old for old, *_ in FORMER])
def test_former_modules_are_the_moved_ones(old, name, new):
    sys.modules.pop(f"ppl_hmm.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"ppl_hmm\.{old} has moved to ppl_hmm\.{new};") as caught:
        former = importlib.import_module(f"ppl_hmm.{old}")
    assert {warning.filename for warning in caught} == {importlib.__file__}  # who imported, not who resolved it
    assert former is importlib.import_module(f"ppl_hmm.{new}")
    assert hasattr(former, name)


@pytest.mark.parametrize("old", sorted(_moved._MODULES))
def test_every_former_module_is_there(old):
    sys.modules.pop(f"ppl_hmm.{old}", None)
    with pytest.warns(DeprecationWarning, match="has moved"):
        importlib.import_module(f"ppl_hmm.{old}")


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("inference", "posterior", "inference.queries"),
        ("models.hmm", "hmm_program", "programs.hmm"),
        ("models.memory", "memory_program", "programs.memory"),
        ("heads.attention", "constructed_attention", "heads.constructed"),
        ("heads.linear", "constructed_head", "heads.constructed"),
        ("prompts", "constructed_prompt", "prompts.constructed"),
        ("prompts", "fit_prompt", "prompts.fitted"),
        ("storage", "load", "storage.files"),
    ],
)
def test_names_whose_module_became_a_package_or_another_are_found(old, name, new):
    module = importlib.import_module(f"ppl_hmm.{old}")
    with pytest.warns(DeprecationWarning, match=rf"ppl_hmm\.{old}\.{name} has moved") as caught:
        value = getattr(module, name)
    assert caught[0].filename == __file__
    assert value is getattr(importlib.import_module(f"ppl_hmm.{new}"), name)
    with pytest.raises(AttributeError, match=f"module 'ppl_hmm.{old}' has no attribute 'nope'"):
        _ = module.nope


@pytest.mark.filterwarnings("ignore:ppl_hmm.parameters has moved")
def test_modules_move_with_their_package():
    with pytest.warns(DeprecationWarning, match=r"ppl_hmm\.parameters\.initial has moved to ppl_hmm\.models\.initial;"):
        former = importlib.import_module("ppl_hmm.parameters.initial")
    assert former is importlib.import_module("ppl_hmm.models.initial")
    with pytest.raises(ModuleNotFoundError, match=r"ppl_hmm\.models\.nope"):
        importlib.import_module("ppl_hmm.parameters.nope")


def test_a_script_of_version_0_1_runs(tmp_path):
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
from ppl_hmm.parameters import HMM
from ppl_hmm.inference import posterior
from ppl_hmm.models.hmm import hmm_program
import ppl_hmm.parameters.hmm
from ppl_hmm import models
assert ppl_hmm.parameters.hmm.HMM is HMM is models.HMM
print(float(posterior(HMM([1.0], [[1.0]], [[0.5, 0.5]]), [[0, 1]]).log_evidence))
"""
    assert float(run(code, tmp_path)) == pytest.approx(2 * np.log(0.5))
