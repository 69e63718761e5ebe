"""Heads: classifiers on masked conditionals, learned or constructed."""
