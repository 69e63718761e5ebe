"""Posterior draws of models given text: priors, samplers, stores of draws, and the tree of results."""
