"""How training speeds up with ranks and threads, measured and predicted."""
