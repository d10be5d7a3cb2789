"""Learning rates by epoch."""

import pytest

from lenet_mp.errors import UsageError
from lenet_mp.training.config import Config
from lenet_mp.training.schedule import ORIGINAL, Schedule, epochs_without_gain, learning_rates


def test_the_original_schedule():
    """The default is the original program's ten epochs."""
    assert learning_rates(ORIGINAL, 10) == [5e-6] * 2 + [5e-5] * 2 + [2e-5] * 3 + [1e-5] * 3


def test_the_last_rate_goes_on_and_extra_rates_are_cut():
    """A schedule fits any number of epochs."""
    assert learning_rates("0.5*2, .1", 5) == [0.5, 0.5, 0.1, 0.1, 0.1]
    assert learning_rates(ORIGINAL, 1) == [5e-6]


@pytest.mark.parametrize(
    "text", ["", "x", "0", "-1", "1e999", "1*0", "1*", "1,,2", "1*2*3", "nan", "inf", ".", "1e-999", "0x1"]
)
def test_bad_rates_are_refused(text):
    """Anything but positive finite rates is a usage error that shows the form."""
    with pytest.raises(UsageError, match="write RATE or"):
        learning_rates(text, 3)


def history(*accuracies):
    return [{"val_top1": accuracy, "loss": 1.0} for accuracy in accuracies]


def rates(steps=4, rows=(), **options):
    """Return the rate of every step of a run."""
    config = Config(**options)
    schedule = Schedule(config, steps)
    return [schedule.rate(epoch, step, rows) for epoch in range(config.epochs) for step in range(steps)]


def test_the_table_changes_with_the_epoch():
    """The original schedule is the table, the same in all steps of an epoch."""
    assert rates(steps=2, lr="3,2*2", epochs=4) == [3, 3, 2, 2, 2, 2, 2, 2]


def test_constant_and_step():
    """Constant keeps the first rate; step divides it by ten after each third of the epochs."""
    assert rates(steps=1, schedule="constant", lr="3,2", epochs=3) == [3, 3, 3]
    assert rates(steps=1, schedule="step", lr="1", epochs=6) == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_falls_from_the_rate_to_zero():
    """The cosine is at its rate in the first step, at half of it in the middle, near zero at the end, and falls."""
    cosine = rates(schedule="cosine", lr="2", epochs=10)
    assert cosine[0] == 2
    assert cosine[20] == 1
    assert 0 < cosine[-1] < 0.01
    assert cosine == sorted(cosine, reverse=True)


def test_warm_up_rises_in_equal_parts():
    """During the warm-up the rate rises by equal amounts and reaches its full value with the last step of it."""
    assert rates(schedule="constant", lr="1", epochs=2, warmup=1) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("accuracies", "rate"),
    [([], 1), ([0.1, 0.2, 0.3], 1), ([0.3, 0.2, 0.3], 0.5), ([0.3] * 5, 0.25), ([0.3, 0.2, 0.4, 0.4, 0.4], 0.5)],
)
def test_plateau_halves_after_two_epochs_without_gain(accuracies, rate):
    """Two epochs in a row without a better validation accuracy halve the rate, and the count starts anew."""
    schedule = Schedule(Config(schedule="plateau", lr="1"), 4)
    assert schedule.rate(len(accuracies), 0, history(*accuracies)) == rate


def test_epochs_without_gain():
    """The best epoch is the first with the highest validation accuracy, or with the smallest loss without any."""
    assert epochs_without_gain([]) == 0
    assert epochs_without_gain(history(0.1, 0.3, 0.3, 0.2)) == 2
    assert epochs_without_gain([{"val_top1": None, "loss": loss} for loss in (3, 1, 2)]) == 1
