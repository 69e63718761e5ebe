"""The page of the API."""

import re
from pathlib import Path

import ppl_hmm

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_module_of_every_public_name_is_listed():
    listed = re.findall(r"^   (ppl_hmm[\w.]*)$", PAGE.read_text(), re.MULTILINE)
    homes = {name: getattr(ppl_hmm, name).__module__ for name in ppl_hmm.__all__ if name != "MASK"}
    assert {name: home for name, home in homes.items() if not any(f"{home}.".startswith(f"{m}.") for m in listed)} == {}
    assert "ppl_hmm.base.tokens" in listed  # the home of MASK, a number, which does not know it
