"""lenet_mp: a multiprocess data-parallel trainer for small CNN image classifiers with a C core."""

__version__ = "0.1.0"
