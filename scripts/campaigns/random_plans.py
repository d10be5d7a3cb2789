"""Run random networks through the engine, as a program of its own: random_plans.py MODULE ISA SEED FIRST COUNT [BUG].

MODULE is the extension module to use, or - for the installed one. Prints for each network a digest of all results, and
its convolutions, of which some have an instance of their own: ``kernel,stride,channels in,channels out``. The same
networks follow from SEED and number wherever this runs. Every image lies in memory of its own, exactly as long as it
is, so that a sanitizer sees whoever reads beside it. BUG makes the mistake of a caller, which a sanitizer must report:
``bounds`` gives images that are too short, ``undefined`` gives totals at an odd address.
"""

from __future__ import annotations

import hashlib
import importlib.util
import random
import sys
from typing import Any

import numpy as np

ACTIVATIONS = ("squash", "sigmoid", "tanh", "relu", "prelu", "elu")
POOLS = ("average_pool", "max_pool", "subsample")
AUGMENTATIONS = ("none", "flip", "crop=2", "jitter=0.5", "erase=0.5", "flip,crop=1,jitter,erase")


def load(path: str) -> None:
    """Make the module at ``path`` the package's C core."""
    import lenet_mp  # noqa: PLC0415

    specification = importlib.util.spec_from_file_location("lenet_mp._kernels", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules["lenet_mp._kernels"] = module
    lenet_mp._kernels = module  # noqa: SLF001
    specification.loader.exec_module(module)


def draw_network(rng: random.Random) -> Any:
    """Return a compiled network of one to seven layers on small images; what does not fit together is drawn again."""
    from lenet_mp.errors import UsageError  # noqa: PLC0415
    from lenet_mp.networks import model_files  # noqa: PLC0415
    from lenet_mp.networks.network import compile_network  # noqa: PLC0415

    while True:
        shape = (rng.randint(1, 24), rng.randint(1, 24), rng.choice((1, 2, 3, 3, 4, 17)))
        rows: list[dict[str, Any]] = []
        for _ in range(rng.randint(0, 6)):
            kind = rng.choice(("conv", "conv", "pool", "activation", "activation", "dense"))
            if kind == "conv":
                row = {"kind": "conv", "channels": rng.choice((1, 2, 5, 6, 8, 16, 19))}
                row |= {"kernel": rng.choice((1, 2, 3, 3, 5)), "stride": rng.choice((1, 1, 2, 3, 4))}
                rows.append(row | {"padding": rng.choice((0, 0, 1, 2))})
            elif kind == "pool":
                window = rng.choice((1, 2, 2, 3))
                rows.append({"kind": rng.choice(POOLS), "kernel": window, "stride": rng.choice((window, window, 1, 2))})
            elif kind == "dense":
                rows.append({"kind": "dense", "channels": rng.randint(1, 40)})
            else:
                rows.append({"kind": rng.choice(ACTIVATIONS)})
        document = {"name": "random", "layer": [*rows, {"kind": "dense"}]}
        try:
            return compile_network(model_files.from_document(document, "a draw"), shape, rng.randint(2, 24))
        except UsageError:
            continue


def results(number: int, seed: int, bug: str) -> tuple[bytes, list[str]]:
    """Return totals of a step, counts and logits of a random network on random images, and its convolutions."""
    from lenet_mp import augmentation, plan  # noqa: PLC0415
    from lenet_mp.augmentation import Augment  # noqa: PLC0415
    from lenet_mp.errors import UsageError  # noqa: PLC0415
    from lenet_mp.targets import make_targets  # noqa: PLC0415

    rng = random.Random(f"{seed} {number}")
    numbers = np.random.default_rng([seed, number])
    network = draw_network(rng)
    samples, size = rng.choice((1, 3, 8, 15, 16, 17, 33)), int(np.prod(network.input_shape))
    parameters = (numbers.normal(size=network.parameter_count) * rng.choice((0.1, 0.5, 3))).astype(np.float32)
    shorter = min(size // 2, 64) if bug == "bounds" else 0
    images = [numbers.integers(0, 256, size - shorter, dtype=np.uint8) for _ in range(samples)]
    addresses = np.array([image.ctypes.data for image in images], np.uintp)
    labels = numbers.integers(0, network.classes, samples).astype(np.int32)
    starts = [0]
    while starts[-1] < samples:
        starts.append(min(samples, starts[-1] + rng.randint(1, plan.GROUP_SIZE)))
    try:
        chosen = augmentation.parse(rng.choice(AUGMENTATIONS))
        chosen.padding(network.input_shape)
    except UsageError:
        chosen = augmentation.parse("none")
    targets = make_targets(network.classes, smoothing=rng.choice((0.0, 0.1)), weights=None)
    made = plan.Plan(network.layers, scale=2 / 255, offset=rng.choice((-1.0, 0.0)), threads=rng.randint(1, 3))
    count = network.parameter_count + plan.COUNTS
    totals = np.empty(count, np.int64)
    if bug == "undefined":
        totals = np.empty(8 * count + 8, np.uint8)[4 : 4 + 8 * count].view(np.int64)
        plan.check = lambda _, array, *__, **___: array
    augment = Augment(chosen, seed, number, np.arange(samples, dtype=np.int64))
    groups = np.array(starts, np.int32)
    made.step(parameters, addresses, labels, groups, limit=2.0**20, totals=totals, targets=targets, augment=augment)
    counts, logits = np.empty(plan.COUNTS, np.int64), np.empty((samples, network.classes), np.float32)
    made.evaluate(parameters, addresses, labels, totals=counts, logits=logits)
    logits[np.isnan(logits)] = np.nan  # of all its bit patterns one
    shapes = [
        f"{layer.kernel_size[0]},{layer.stride},{layer.input_shape[2]},{layer.output_shape[2]}"
        for layer in network.layers
        if layer.kind == "conv"
    ]
    return totals.tobytes() + counts.tobytes() + logits.tobytes(), shapes


def main(module: str, isa: str, seed: str, first: str, count: str, bug: str = "") -> None:
    """Work networks ``first`` and those after."""
    if module != "-":
        load(module)
        from lenet_mp import _native  # noqa: PLC0415

        _native.available = lambda: (isa,)
    for number in range(int(first), int(first) + int(count)):
        found, shapes = results(number, int(seed), bug)
        print(number, hashlib.sha256(found).hexdigest()[:16], *shapes, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
