"""The page of the API."""

import re
from pathlib import Path

import ppl_hmm

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_every_public_name_is_listed_once():
    listed = re.findall(r"^   ppl_hmm\.([A-Za-z_]\w*)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(ppl_hmm.__all__)
