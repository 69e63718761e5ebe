"""Models, tasks, prompts, heads and trees as files."""

from typing import TYPE_CHECKING

from ppl_hmm import _moved

if not TYPE_CHECKING:
    __getattr__ = _moved.former_names(__name__)
