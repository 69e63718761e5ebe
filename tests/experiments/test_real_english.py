"""What `ppl-hmm fit` finds in English: the chapters behind `help()`, which every machine with Python has."""

import pydoc_data.topics
import re
import time

import numpy as np
import pytest

from ppl_hmm import cli, load
from ppl_hmm.storage import netcdf

VOWELS, EXCEPTIONS = set("aeiou"), set("hky")
SECONDS = 120  # of CPU time: a minute on two cores


def english():
    """Return paragraphs that are mostly letters."""
    topics = "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    for paragraph in re.split(r"\n\s*\n", topics):
        letters = sum(each.islower() or each.isspace() for each in paragraph)
        if len(paragraph) > 100 and letters > 0.9 * len(paragraph):
            yield paragraph


@pytest.mark.slow
def test_two_states_are_vowels_and_consonants_and_twenty_beat_bigrams(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(english()))
    arguments = [str(tmp_path / "corpus.txt"), "--states", "2,20", "--lowercase", "--out", str(tmp_path / "fit")]
    started = time.process_time()
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit", *arguments])
    assert caught.value.code == 0
    assert time.process_time() - started < SECONDS
    model = load(tmp_path / "fit" / "model-2.nc")
    token = {name: number for number, name in enumerate(model.names["token"])}
    likelier = model.emission.argmax(0)
    of_vowels = int(likelier[token["e"]])
    found = {letter for letter in "abcdefghijklmnopqrstuvwxyz" if int(likelier[token[letter]]) == of_vowels}
    assert found >= VOWELS
    consonants = set("abcdefghijklmnopqrstuvwxyz") - VOWELS - EXCEPTIONS
    # Letters are vowels by most of their weight: rare ones may err in either direction.
    weight = np.array([float(model.emission[:, token[letter]].sum()) for letter in sorted(found & consonants)]).sum()
    assert weight < 0.05 * float(model.emission[:, [token[letter] for letter in consonants]].sum())
    perplexity = netcdf.read(tmp_path / "fit" / "fit.nc")["held_out"]
    baselines = perplexity["baseline_perplexity"]
    two, twenty = perplexity["perplexity"].values
    assert twenty < baselines.sel(baseline="bigram")
    assert two < baselines.sel(baseline="unigram")
    assert baselines.sel(baseline="trigram") < twenty  # as it should be said
