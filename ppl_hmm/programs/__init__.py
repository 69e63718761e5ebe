"""Pyro programs of the models, and the same inference by Pyro's own enumeration."""
