"""A training run: options, steps, evaluation, state, run folder."""
