"""Real pretrained models, which Python wheels carry: heads learn a readable task, and nothing of shuffled labels."""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ppl_hmm import audit_features, audit_language_model, check_language_model

pytest.importorskip("transformers", reason="the extra 'lm' is not installed: no transformers")
_FILE = Path(__file__).parents[2] / "analyses" / "antibodies.py"
_SPEC = importlib.util.spec_from_file_location("antibodies", _FILE)
antibodies = importlib.util.module_from_spec(_SPEC)
sys.modules["antibodies"] = antibodies
_SPEC.loader.exec_module(antibodies)

pytestmark = pytest.mark.slow
_ABSENT = "no wheel {0}: pip install --no-deps --target DIR {0}, and name DIR in PPL_HMM_WHEELS"
needs_sapiens = pytest.mark.skipif(
    antibodies.folder_of("sapiens") is None, reason=_ABSENT.format("sapiens==1.0.5")
)
needs_antiberty = pytest.mark.skipif(
    antibodies.folder_of("antiberty") is None, reason=_ABSENT.format("antiberty==0.1.3")
)


def pseudo_perplexity(lm, text, first):
    tokens = torch.tensor(antibodies.residues([text], first))
    laws = lm.conditionals(tokens)[0]
    return float(laws[torch.arange(len(text)), tokens[0] - first].log().mean().neg().exp())


@needs_sapiens
def test_sapiens_predicts_residues_in_time():
    lm, texts = antibodies.sapiens("vh"), antibodies.carried()["vh"]
    (text,) = [each for each in texts if each.startswith("QVQLVQ")]
    started = time.process_time()
    found = pseudo_perplexity(lm, text, 4)
    assert time.process_time() - started < 10  # 120 leave-one-out positions
    assert len(text) == 120
    assert found == pytest.approx(2.63, abs=0.02)
    tokens = antibodies.residues([text[:8], text[8:16]], 4)
    assert check_language_model(lm, tokens).passed, str(check_language_model(lm, tokens))


@needs_antiberty
def test_antiberty_predicts_residues():
    (text,) = [each for each in antibodies.carried()["vh"] if each.startswith("EVQLVQ")]
    assert pseudo_perplexity(antibodies.antiberty(), text, 5) == pytest.approx(1.52, abs=0.02)


def chains(n_texts, length=60):
    """Return heavy and light texts sampled from Sapiens, and their chains."""
    stream, found = torch.Generator().manual_seed(0), []
    for chain in ("vh", "vl"):
        starts = [each[:length] for each in antibodies.carried()[chain]]
        texts = antibodies.residues((starts * n_texts)[:n_texts], 4)
        found.append(antibodies.sampled(antibodies.sapiens(chain), texts, 6, stream))
    return torch.cat(found), np.repeat(["heavy", "light"], n_texts)


@needs_sapiens
@needs_antiberty
@pytest.mark.parametrize("name", ["sapiens", "antiberty"])
def test_a_head_tells_the_chain_and_nothing_of_shuffled_labels(name):
    tokens, labels = chains(60)
    lm, moved = (antibodies.sapiens("vh"), 0) if name == "sapiens" else (antibodies.antiberty(), 1)
    tree = audit_language_model(lm, tokens + moved, labels, n_prompt_tokens=0, seed=0)
    learned = tree["diagnostics/learned"].sel(approach="head")
    assert learned["accuracy"] > 0.9
    assert learned["selectivity_low"] > 0.2
    features = tree["features/features"].values
    for seed in range(3):
        shuffled = audit_features(features, np.random.default_rng(seed).permutation(labels), seed=seed)
        row = shuffled["diagnostics/learned"].sel(approach="head")
        assert abs(float(row["selectivity"])) < 0.25  # 36 texts held out: three standard errors
        assert row["selectivity_low"] <= 0
