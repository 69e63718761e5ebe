"""When do head tuning and prompt tuning recover a downstream label? Exact answers for hidden Markov models."""

import lazy_loader

from ppl_hmm import _moved
from ppl_hmm._version import __version__ as __version__

# The public names stand in __init__.pyi. Each is imported at its first use, so that ``import ppl_hmm`` is quick.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_moved.install()
