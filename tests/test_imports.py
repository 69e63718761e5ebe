"""``import ppl_hmm`` loads no library; every public name is where it says."""

import importlib
import json
import subprocess
import sys

import pytest

import ppl_hmm

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


@pytest.mark.parametrize("name", sorted(ppl_hmm._HOME))
def test_every_public_name_resolves(name):
    value = getattr(ppl_hmm, name)
    home = importlib.import_module(f"ppl_hmm.{ppl_hmm._HOME[name]}")
    assert value is getattr(home, name)
    assert name in dir(ppl_hmm)
    assert name == "MASK" or value.__doc__


def test_every_public_name_resolves_in_a_fresh_interpreter(tmp_path):
    code = "import ppl_hmm\nfor name in sorted(ppl_hmm._HOME): getattr(ppl_hmm, name)\nprint('all')"
    assert run(code, tmp_path) == "all\n"


def test_other_names_are_attribute_errors():
    assert not hasattr(ppl_hmm, "nope")
    with pytest.raises(AttributeError, match="module 'ppl_hmm' has no attribute 'nope'"):
        _ = ppl_hmm.nope
    with pytest.raises(ImportError):
        importlib.import_module("ppl_hmm.nope")
