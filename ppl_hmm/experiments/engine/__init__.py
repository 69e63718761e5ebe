"""Grids, cells, stores and runners: the engine of any experiment."""
