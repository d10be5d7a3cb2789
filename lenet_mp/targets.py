"""What the training loss asks of every class: label smoothing and class weights, as the C core takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lenet_mp._guards import check
from lenet_mp.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FIELDS = 3
"""Values of a row of targets: ``own``, ``share`` and ``mass`` of a class (struct lenet_target)."""


def make_targets(
    classes: int, *, smoothing: float = 0.0, weights: NDArray[np.float32] | None = None
) -> NDArray[np.float32] | None:
    """Return the targets (classes, 3) float32 of the smoothed and weighted cross-entropy; None for the plain one.

    A sample of class y has the loss

    ``(1 - smoothing) * weights[y] * -log p[y] + smoothing / classes * sum over j of weights[j] * -log p[j]``

    which is that of ``torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing, reduction="none")``;
    smoothing is that of Szegedy et al. 2016: a share of every label is spread evenly over all classes.

    Parameters
    ----------
    classes : int
    smoothing : float
        From 0 to 1.
    weights : (classes,) float32, optional
        One a class, finite and not negative; all 1 if left out.

    Raises
    ------
    UsageError
        If a value is out of its range.
    ArrayError
        If ``weights`` is another array.
    """
    if not 0 <= smoothing <= 1:
        raise UsageError(f"smoothing: expected a number from 0 to 1, got {smoothing}")
    if not smoothing and weights is None:
        return None
    own = np.ones(classes, np.float32) if weights is None else check("weights", weights, np.float32, (classes,))
    if not (np.isfinite(own).all() and own.min() >= 0):
        raise UsageError("weights: expected finite numbers that are not negative")
    # Element by element in float64, one rounding at the end. The order of the sum is fixed: same bits everywhere.
    wide = own.astype(np.float64)
    rows = np.empty((classes, FIELDS), np.float32)
    rows[:, 0] = (1 - smoothing) * wide
    rows[:, 1] = smoothing / classes * wide
    rows[:, 2] = (1 - smoothing) * wide + smoothing / classes * np.cumsum(wide)[-1]
    return rows
