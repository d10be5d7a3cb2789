"""A network compiled for the step: one C call for forward and backward of a whole batch."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import numpy as np

from lenet_mp._guards import check, check_labels
from lenet_mp._native import c_augmentation, c_layers, ffi, isa, isa_index, lib, pointer
from lenet_mp.errors import ArrayError, GeometryError, UsageError
from lenet_mp.targets import FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from lenet_mp.augmentation import Augment
    from lenet_mp.networks.geometry import Layer

QUANTUM: float = 2.0 ** -lib.LENET_QUANTUM_BITS
"""Totals count in this unit: ``total * QUANTUM`` is the value."""
GROUP_SIZE: int = lib.LENET_GROUP
"""Samples of a group at most."""
COUNTS: int = lib.LENET_COUNTS
"""Values behind the gradient in an array of totals."""
LOSS: int = lib.LENET_LOSS - COUNTS
SAMPLES: int = lib.LENET_SAMPLES - COUNTS
TOP1: int = lib.LENET_TOP1 - COUNTS
TOP5: int = lib.LENET_TOP5 - COUNTS
REFUSED: int = lib.LENET_REFUSED - COUNTS
"""Indices (negative, from the end) of the counts that close every array of totals."""

LARGEST_LIMIT = 2.0**22
"""Values from here on do not fit into the sum of two groups."""
LOSS_LIMIT = 2.0**13
"""Largest loss of a sample that an evaluation adds up; a million samples of loss 8 still fit."""


def default_threads() -> int:
    """Threads of OpenMP's own choice: ``OMP_NUM_THREADS``, or the cores of the affinity mask."""
    return int(lib.lenet_default_threads())


def _require_chain(layers: Sequence[Layer]) -> None:
    if not layers:
        raise GeometryError("a plan needs at least one layer")
    for before, after in itertools.pairwise(layers):
        if before.output_shape != after.input_shape:
            raise GeometryError(f"layer {after.name}: expected input {before.output_shape} from {before.name}, "
                                f"got {after.input_shape}")
    offset = 0
    for layer in layers:
        if layer.parameter_count and layer.offset != offset:
            raise GeometryError(f"layer {layer.name}: expected parameters at offset {offset}, got {layer.offset}")
        offset += layer.parameter_count
    if layers[-1].output_shape[:2] != (1, 1):
        raise GeometryError(f"layer {layers[-1].name}: the last output must be (1, 1, classes), "
                            f"got {layers[-1].output_shape}")


def fill(scale: float, offset: float) -> int:
    """Return the pixel value for what is not image, where ``float(pixel) * scale + offset`` is nearest to zero.

    So a border that a shift uncovers looks like the zeros with which a convolution pads.
    """
    return min(255, max(0, round(-offset / scale)))


class Plan:
    """Compiled step of one network.

    Every thread runs groups of up to ``GROUP_SIZE`` samples forward and backward through the whole network in memory
    that is allocated here, once. A plan serves one caller at a time; a second one waits.

    Parameters
    ----------
    layers : sequence of Layer
        A compiled network; the last output is (1, 1, classes).
    scale, offset : float
        Of the normalisation: a pixel enters as ``float(pixel) * scale + offset``.
    threads : int, optional
        Default: ``default_threads()``.

    Attributes
    ----------
    parameter_count, classes, threads : int
    input_shape : (H, W, C)
    scratch_bytes : int
        Memory of all threads together.
    isa : str
        Instruction set that the plan is compiled for.
    """

    def __init__(self, layers: Sequence[Layer], *, scale: float, offset: float, threads: int | None = None) -> None:
        _require_chain(layers)
        self.threads = default_threads() if threads is None else threads
        if self.threads < 1:
            raise UsageError(f"threads: expected at least 1, got {self.threads}")
        self.parameter_count = sum(layer.parameter_count for layer in layers)
        self.classes = layers[-1].output_shape[2]
        self.input_shape = layers[0].input_shape
        self.isa = isa()
        self._fill = fill(scale, offset)
        plan = lib.lenet_plan_create(c_layers(layers), len(layers), scale, offset, self.threads, isa_index())
        if plan == ffi.NULL:
            raise MemoryError(f"no memory for a plan of {self.threads} threads: use fewer threads or smaller images")
        self._plan = ffi.gc(plan, lib.lenet_plan_free)
        self.scratch_bytes = int(lib.lenet_plan_scratch_bytes(plan))
        self._lock = threading.Lock()

    def step(self, parameters: NDArray[np.float32], images: ArrayLike, labels: NDArray[np.int32],
             group_starts: NDArray[np.int32], *, limit: float, totals: NDArray[np.int64],
             targets: NDArray[np.float32] | None = None, augment: Augment | None = None) -> None:
        """Forward and backward over a batch: gradient of the summed loss, and counts, as exact integers.

        Parameters
        ----------
        parameters : (P,) float32
        images : (n,) uintp
            Address of each sample: H * W * C contiguous uint8. Whoever owns the memory keeps it alive.
        labels : (n,) int32
        group_starts : (G + 1,) int32
            Group g is the samples from ``group_starts[g]`` to ``group_starts[g + 1]``, at most ``GROUP_SIZE``, from
            0 to n.
            A group's gradient is summed in float32, groups are added as integers: totals of any partition of
            the groups into calls add up to the same.
        limit : float
            Values of a group's gradient, and losses, that are not finite or not below this in magnitude add
            nothing and count as refused. At most 2**22.
        totals : (P + 5,) int64
            Overwritten: the gradient in units of ``QUANTUM``, then at ``LOSS`` the summed losses in the same unit,
            at ``SAMPLES``, ``TOP1`` and ``TOP5`` counts of samples, at ``REFUSED`` the number of refused values.
        targets : (classes, 3) float32, optional
            Of :func:`lenet_mp.targets.make_targets`: the loss is the cross-entropy with them, the plain one without.
        augment : Augment, optional
            How the images are changed as they are read; the memory that they lie in is not touched.

        Raises
        ------
        ArrayError
            A wrong dtype, shape, layout, a read-only ``totals``, a label outside the classes, groups that are
            not a partition of the samples.
        """
        addresses = self._check(parameters, images)
        check("labels", labels, np.int32, addresses.shape)
        check_labels(labels, self.classes)
        check("totals", totals, np.int64, (self.parameter_count + COUNTS,), writable=True)
        check("group_starts", group_starts, np.int32, ("G + 1",))
        _require_partition(group_starts, len(labels))
        if not 0 < limit <= LARGEST_LIMIT:
            raise UsageError(f"limit: expected a number from 0 to 2**22, got {limit}")
        if targets is not None:
            check("targets", targets, np.float32, (self.classes, FIELDS))
        rules, samples = ffi.NULL, None
        if augment and augment.augmentation:
            samples = check("samples", augment.samples, np.int64, addresses.shape)
            rules = c_augmentation(augment, self.input_shape, self._fill)
        with self._lock:
            lib.lenet_plan_step(
                self._plan, pointer("int64_t *", totals), pointer("float *", parameters),
                pointer("uintptr_t *", addresses), pointer("int32_t *", labels), pointer("int32_t *", group_starts),
                len(group_starts) - 1, limit, pointer("struct lenet_target *", targets), rules,
                pointer("int64_t *", samples))

    def evaluate(self, parameters: NDArray[np.float32], images: ArrayLike, labels: NDArray[np.int32], *,
                 totals: NDArray[np.int64], logits: NDArray[np.float32] | None = None) -> None:
        """Forward only: the five counts of :meth:`step` into ``totals`` (5,) int64, logits (n, classes) where wanted.

        The loss is plain cross-entropy. One that is not finite, or 2**13 and more, adds nothing and counts as refused.
        """
        addresses = self._check(parameters, images)
        check("labels", labels, np.int32, addresses.shape)
        check_labels(labels, self.classes)
        check("totals", totals, np.int64, (COUNTS,), writable=True)
        if logits is not None:
            check("logits", logits, np.float32, (len(addresses), self.classes), writable=True)
        self._forward(totals, logits, parameters, addresses, labels)

    def forward(self, parameters: NDArray[np.float32], images: ArrayLike) -> NDArray[np.float32]:
        """Logits (n, classes) of the samples at the addresses ``images``."""
        addresses = self._check(parameters, images)
        logits = np.empty((len(addresses), self.classes), np.float32)
        self._forward(None, logits, parameters, addresses, None)
        return logits

    def profile(self, *, on: bool = True) -> dict[str, float]:
        """Return seconds by phase since the last call, all threads together, and go on measuring or stop.

        A fresh plan does not measure. ``load`` (pixels made into floats) is part of ``forward`` and ``backward``;
        ``reduction`` is the sum of the groups and threads, waiting for other threads included.
        """
        seconds = np.zeros(lib.LENET_PHASES)
        with self._lock:
            lib.lenet_plan_profile(self._plan, on, pointer("double *", seconds))
        return dict(zip(("load", "forward", "backward", "reduction"), seconds.tolist(), strict=True))

    def _check(self, parameters: NDArray[np.float32], images: ArrayLike) -> NDArray[np.uintp]:
        check("parameters", parameters, np.float32, (self.parameter_count,))
        addresses: NDArray[np.uintp] = np.ascontiguousarray(images, dtype=np.uintp)
        check("images", addresses, np.uintp, ("N",))
        if not addresses.all():
            raise ArrayError(f"images: expected addresses, got 0 at index {int(np.argmin(addresses))}")
        return addresses

    def _forward(self, totals: NDArray[np.int64] | None, logits: NDArray[np.float32] | None,
                 parameters: NDArray[np.float32], addresses: NDArray[np.uintp],
                 labels: NDArray[np.int32] | None) -> None:
        with self._lock:
            lib.lenet_plan_forward(
                self._plan, pointer("int64_t *", totals), pointer("float *", logits), pointer("float *", parameters),
                pointer("uintptr_t *", addresses), pointer("int32_t *", labels), len(addresses), LOSS_LIMIT)


def _require_partition(group_starts: NDArray[np.int32], samples: int) -> None:
    sizes = np.diff(group_starts)
    if (group_starts.size == 0 or group_starts[0] != 0 or group_starts[-1] != samples
            or (sizes.size and (sizes.min() < 0 or sizes.max() > GROUP_SIZE))):
        raise ArrayError(f"group_starts: expected numbers rising from 0 to {samples} in steps of at most {GROUP_SIZE}, "
                         f"got {group_starts.tolist() if group_starts.size < GROUP_SIZE else 'others'}")
