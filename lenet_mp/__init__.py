"""lenet_mp: a multiprocess data-parallel trainer for small CNN image classifiers with a C core.

``fit`` trains, ``load_run`` opens a run, ``save_dataset`` writes arrays for the commands, ``open_dataset`` reads a data
set; ``Model`` is a table of layers, ``MODELS`` holds those that are known, ``LenetError`` is what everything raises.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lenet_mp.data.arrays import save_dataset
    from lenet_mp.data.shards import open_dataset
    from lenet_mp.errors import LenetError
    from lenet_mp.interface import fit, load_run
    from lenet_mp.networks.models import MODELS, Model
    from lenet_mp.results.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["MODELS", "Classifier", "LenetError", "Model", "fit", "load_run", "open_dataset", "save_dataset"]

_PLACES = {
    "MODELS": "networks.models",
    "Classifier": "results.classifier",
    "LenetError": "errors",
    "Model": "networks.models",
    "fit": "interface",
    "load_run": "interface",
    "open_dataset": "data.shards",
    "save_dataset": "data.arrays",
}


def __getattr__(name: str) -> object:
    """Import what is asked for on first use: ``import lenet_mp`` alone loads nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lenet_mp' has no attribute '{name}'")
    value: object = getattr(importlib.import_module(f"lenet_mp.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
