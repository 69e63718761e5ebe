"""Masked language models: anything that returns masked conditionals G."""
