"""Exact inference on plain arrays: no models, no Pyro."""
