"""Several ranks: the one door to MPI, and how they agree, fail and end together."""
