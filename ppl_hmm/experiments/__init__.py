"""Experiments: a grid of cells, each computed apart, gathered in one store."""

import lazy_loader

# Whoever opens a store or defines an experiment finds those of the package defined.
from ppl_hmm.experiments.figure3 import configurations as configurations
from ppl_hmm.experiments.kernels import configuration as _kernels  # noqa: F401
from ppl_hmm.experiments.trained import configurations as _trained  # noqa: F401
from ppl_hmm.experiments.trained.loss_vs_error import configuration as _losses  # noqa: F401

# Names of an experiment of one's own stand in __init__.pyi: each is imported at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
