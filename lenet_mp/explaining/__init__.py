"""Single outputs and gradients, taken apart by hand."""
