"""Experiments: a grid of cells, each computed apart, gathered in one store."""

import lazy_loader

# Names of an experiment of one's own stand in __init__.pyi: each is imported at its first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
