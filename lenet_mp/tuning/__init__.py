"""Finding learning rates and other options by trial."""
