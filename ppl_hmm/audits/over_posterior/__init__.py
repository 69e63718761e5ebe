"""An audit of a fit in place of a model: each answer with its probability."""
