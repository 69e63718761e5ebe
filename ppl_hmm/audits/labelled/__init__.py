"""Audits of labelled texts: what heads, prompts and baselines learn of given labels, without a model of the text."""
