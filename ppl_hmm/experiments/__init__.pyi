from .engine.axes import Axis as Axis
from .engine.grid import Cell as Cell, Settings as Settings
from .engine.runner import run_experiment as run_experiment
