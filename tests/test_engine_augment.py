"""Images changed as they are read: the definition byte for byte, the draws' distribution, the same bits everywhere."""

from __future__ import annotations

import augmentation_reference as reference
import numpy as np
import pytest
from instruction_sets import isa  # noqa: F401 - a fixture
from test_engine import LIMIT, NETWORKS, OFFSET, SCALE, addresses, groups, problem, run

from lenet_mp import engine
from lenet_mp.augmentation import Augment, Augmentation, parse
from lenet_mp.errors import ArrayError
from lenet_mp.plan import fill

ALL = "flip,crop,jitter,erase"
CHANGES = ["flip=1", "flip", "crop", "crop=90%", "crop=2", "jitter", "jitter=0:1", "jitter=1:0", "erase",
           "erase=1:100%", "flip,crop", "flip=1,crop=60%,jitter=1,erase=1", ALL]
SHAPES = [(9, 11, 3), (3, 3, 1), (33, 47, 4), (28, 28, 1), (5, 6, 3), (7, 5, 2), (20, 3, 17), (13, 8, 16), (4, 90, 9),
          (41, 113, 3), (3, 200, 1), (70, 4, 3)]


def pixels(shape, count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def augmented(images, changes, seed=5, epoch=1, first=0, fill_with=128):
    """Return the images as a step reads them; their numbers count from ``first``."""
    rules = changes if isinstance(changes, Augmentation) else parse(changes)
    augment = Augment(rules, seed, epoch, np.arange(first, first + len(images)))
    return engine.augment_images(images, augment, fill=fill_with)


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_byte_follows_the_definition(changes, shape, isa):  # noqa: F811, ARG001
    """Each kind alone and all together, for odd sizes and any channels, on every instruction set."""
    images = pixels(shape, 37)
    expected = [reference.augment(image, parse(changes), 7, 3, 1000 + i, 9) for i, image in enumerate(images)]
    np.testing.assert_array_equal(augmented(images, changes, 7, 3, 1000, fill_with=9), expected)


def test_photograph_sizes_follow_the_definition(isa):  # noqa: F811, ARG001
    """The same at 250 x 250 x 3, where a row has many blocks, and with numbers beyond 32 bits."""
    images = pixels((250, 250, 3), 17)
    seed, epoch, first = (1 << 63) - 1, 1 << 40, (1 << 40) + 3
    expected = [reference.augment(image, parse(ALL), seed, epoch, first + i, 128) for i, image in enumerate(images)]
    np.testing.assert_array_equal(augmented(images, ALL, seed, epoch, first), expected)


@pytest.mark.parametrize("name", ["like model 1", "like model 2", "pool first", "dense only", "activation first"])
def test_a_step_reads_the_augmented_images(name, monkeypatch):
    """On every instruction set and any number of threads a step's totals are those of the images changed beforehand."""
    layers = NETWORKS[name]
    parameters, images, labels = problem(layers, 50)
    starts = np.array([0, 16, 29, 29, 30, 38, 47, 50], np.int32)
    rules = parse("flip,crop=25%,jitter,erase")
    numbers = np.random.default_rng(1).permutation(1000)[:50]
    changed = [reference.augment(image, rules, 3, 2, int(number), fill(SCALE, OFFSET))
               for image, number in zip(images, numbers, strict=True)]
    expected = run(layers, parameters, np.stack(changed), labels, starts)
    before = images.copy()
    for variant in engine.available():
        monkeypatch.setenv("LENET_MP_ISA", variant)
        for threads in (1, 3):
            plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=threads)
            totals = np.empty(plan.parameter_count + engine.COUNTS, np.int64)
            plan.step(parameters, addresses(images), labels, starts, limit=LIMIT, totals=totals,
                      augment=Augment(rules, 3, 2, numbers))
            np.testing.assert_array_equal(totals, expected, err_msg=f"{variant}, {threads} threads")
    np.testing.assert_array_equal(images, before)


def test_no_augmentation_changes_no_bit():
    """``none``, and an evaluation between augmented steps, give what a plan that knows no augmentation gives."""
    layers = NETWORKS["like model 1"]
    parameters, images, labels = problem(layers, 40)
    expected = run(layers, parameters, images, labels, groups(40))
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=2)
    totals, counts = np.empty(plan.parameter_count + engine.COUNTS, np.int64), np.empty(engine.COUNTS, np.int64)

    def step(augment):
        plan.step(parameters, addresses(images), labels, groups(40), limit=LIMIT, totals=totals, augment=augment)

    for augment in (None, Augment(parse("none"), 1, 1, np.arange(40))):
        step(Augment(parse(ALL), 1, 1, np.arange(40)))
        assert (totals != expected).any()
        plan.evaluate(parameters, addresses(images), labels, totals=counts)
        np.testing.assert_array_equal(counts, expected[-engine.COUNTS :])
        step(augment)
        np.testing.assert_array_equal(totals, expected)


def test_sample_numbers_are_checked():
    """A step needs the number of each sample, as int64."""
    layers = NETWORKS["dense only"]
    parameters, images, labels = problem(layers, 3)
    plan = engine.Plan(layers, scale=SCALE, offset=OFFSET, threads=1)
    totals = np.zeros(plan.parameter_count + engine.COUNTS, np.int64)
    with pytest.raises(ArrayError, match=r"samples: expected int64 \(3,\), got int64 \(2,\)"):
        plan.step(parameters, addresses(images), labels, groups(3), limit=LIMIT, totals=totals,
                  augment=Augment(parse("flip"), 0, 1, np.arange(2)))
    assert not totals.any()


# --- the distribution of the draws
# Seeds are fixed, so these tests give the same on any machine. A bound of five standard deviations says that nothing
# was chosen to fit.

COUNT = 10_000
COORDINATES = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing="ij"), -1).astype(np.uint8)


def ramps(shape=(16, 16)):
    """Images whose pixels hold their row and column."""
    return np.broadcast_to(COORDINATES, (COUNT, *shape, 2)).copy()


@pytest.mark.parametrize("probability", [0.5, 0.1, 1.0])
def test_share_of_flips(probability):
    """As many mirror images as the probability says; others in the next epoch, by another seed, for other samples."""
    images = ramps()
    deviation = np.sqrt(probability * (1 - probability))
    flips = [augmented(images, f"flip={probability}", seed, epoch, first)[:, 0, 0, 1] == 15
             for seed, epoch, first in ((5, 1, 0), (5, 2, 0), (6, 1, 0), (5, 1, COUNT))]
    both = probability**2
    for flipped in flips:
        assert abs(flipped.mean() - probability) <= 5 * deviation / np.sqrt(COUNT)
    for other in flips[1:]:
        assert abs((flips[0] & other).mean() - both) <= 5 * np.sqrt(both * (1 - both) / COUNT)


def test_shifts_are_uniform():
    """All 49 shifts by up to three pixels are as frequent: a chi-square of 48 has mean 48 and deviation sqrt(96)."""
    seen = augmented(ramps(), "crop=3")[:, 8, 8].astype(int) - 8
    assert np.abs(seen).max() == 3
    counts = np.bincount((seen[:, 0] + 3) * 7 + seen[:, 1] + 3, minlength=49)
    expected = COUNT / 49
    assert ((counts - expected) ** 2 / expected).sum() <= 48 + 5 * np.sqrt(96)


def test_factors_are_uniform():
    """Brightness and contrast factors are spread evenly over their range: mean 1, deviation a / sqrt(3)."""
    images = np.empty((COUNT, 2, 2, 1), np.uint8)
    images[:, 0], images[:, 1] = 80, 120  # mean 100
    seen = augmented(images, "jitter=0.3:0").astype(float)
    brightness = seen.mean((1, 2, 3)) / 100
    seen = augmented(images, "jitter=0:0.3").astype(float)
    contrast = (seen[:, 1] - seen[:, 0]).mean((1, 2)) / 40
    for factor, rounding in ((brightness, 0.5 / 100), (contrast, 1 / 40)):
        assert 0.7 - rounding <= factor.min() <= 0.71 + rounding
        assert 1.29 - rounding <= factor.max() <= 1.3 + rounding
        assert abs(factor.mean() - 1) <= 5 * 0.3 / np.sqrt(3 * COUNT) + rounding
        assert abs(factor.std() - 0.3 / np.sqrt(3)) <= 0.01
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) <= 5 / np.sqrt(COUNT)


def test_erased_rectangles():
    """Half the images have one rectangle erased: 2 to 33 % of the area, anywhere, upright as often as not."""
    holes = augmented(np.ones((COUNT, 50, 50, 1), np.uint8), "erase", fill_with=0)[..., 0] == 0
    erased = holes.any((1, 2))
    assert abs(erased.mean() - 0.5) <= 5 * 0.5 / np.sqrt(COUNT)
    areas = holes[erased].sum((1, 2))
    heights, widths = holes[erased].any(2).sum(1), holes[erased].any(1).sum(1)
    np.testing.assert_array_equal(heights * widths, areas)  # one rectangle
    # The longer side l is rounded down, then the shorter one s to floor(area / l): more than area - l pixels remain,
    # and from l * l <= 3.3 area follows l < 3.3 (s + 1). No side is longer than the image.
    longer, shorter = np.maximum(heights, widths), np.minimum(heights, widths)
    least, most = 0.02 * 2500, 0.33 * 2500
    assert (areas > least - longer).all()
    assert areas.max() <= most
    assert (longer < 3.3 * (shorter + 1)).all()
    deviation = 5 * (most - least) / np.sqrt(12 * len(areas))
    assert (least + most) / 2 - 50 - deviation <= areas.mean() <= (least + most) / 2 + deviation
    upright = (heights > widths).sum() / (heights != widths).sum()
    assert abs(upright - 0.5) <= 5 * 0.5 / np.sqrt(len(heights))
    # A place is hit more often the farther it is from the border, and as often as the one opposite.
    hits = holes[erased].mean(0)
    assert hits.min() > 0
    assert abs(hits[:25].mean() - hits[25:].mean()) <= 5 * np.sqrt(hits.mean() / len(heights))


def test_one_kind_is_drawn_the_same_beside_others():
    """Turning on another kind leaves the flips and shifts of every sample as they were."""
    images = ramps()
    alone = augmented(images, "flip,crop=3")
    both = augmented(images, "flip,crop=3,erase=1", fill_with=200)
    shown = (both != 200).all(-1)
    np.testing.assert_array_equal(both[shown], np.where((alone == 128).all(-1, keepdims=True), 200, alone)[shown])
    assert shown.mean() > 0.5


@pytest.mark.parametrize(("scale", "offset", "value"),
                         [(1 / 255, 0.0, 0), (2 / 255, -1.0, 128), (1.275 / 255, -0.1, 20)])
def test_what_is_no_image_is_zero_for_the_network(scale, offset, value):
    """Border and holes have the pixel value that the normalisation takes nearest to zero."""
    assert fill(scale, offset) == value
    assert abs(value * scale + offset) == min(abs(v * scale + offset) for v in range(256))
