"""The experiments: a grid of cells, each computed apart, gathered in one store."""
