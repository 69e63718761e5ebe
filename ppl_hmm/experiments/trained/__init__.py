"""Trained language models beside the exact one: the figures of Wei, Xie & Ma (2021) as the paper ran them."""
