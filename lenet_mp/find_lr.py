"""``lenet-mp find-lr``: a learning rate to start from, by a range test."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import arguments, cli, tables
from lenet_mp.errors import UsageError
from lenet_mp.parallel import comm
from lenet_mp.training import config, config_options, single
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = """\
Every other option of 'train' that bears on a step can be given, or --config.

example:
  lenet-mp find-lr --data data/ --model 2 --recipe modern -o lr.png
"""
SHOWN = ("model", "data", "batch_size")
LEFT_OUT = ("lr", "schedule", "warmup", "epochs", "patience", "train_accuracy", "feature_image")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "find-lr",
        usage="lenet-mp find-lr [OPTION...]",
        description="Train some steps while the rate rises exponentially, and see where the loss\n"
        "falls fastest and where it is lowest.",
        epilog=EPILOG,
    )
    config_options.add(parser.add_argument_group("as in 'train'"), shown=SHOWN, left_out=LEFT_OUT)
    own = parser.add_argument_group("the test")
    own.add_argument("--config", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    own.add_argument("--from", type=arguments.rate, dest="low", metavar="RATE", help="lowest rate (1e-5 of a mean)")
    own.add_argument("--to", type=arguments.rate, dest="high", metavar="RATE", help="highest rate (10 of a mean)")
    own.add_argument("--steps", type=arguments.positive, default=100, metavar="N", help="steps between them (100)")
    own.add_argument("-o", "--out", type=arguments.picture, default=Path("lr.png"), metavar="FILE",
                     help="picture (lr.png); CSV too")  # fmt: skip
    return parser


@cli.command("find-lr")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the test; print the suggestion; return 0."""
    options = vars(build_parser().parse_args(argv))
    low, high, steps, out, file = (options.pop(name) for name in ("low", "high", "steps", "out", "config"))
    world = comm.connect()
    if world.size > 1:
        return single.refuse("find-lr", world)
    given = config.with_recipe(config.read_options(file) if file else {}, options)
    settings = Config(**{name: value for name, value in given.items() if name not in LEFT_OUT})
    from lenet_mp.tuning import range_test, tuning_plots  # noqa: PLC0415 - loads the C core, which --help can do without

    lowest, highest = range_test.default_range(settings)
    low, high = low or lowest, high or highest
    if not low < high:
        raise UsageError(f"--from {low:g} must be below --to {high:g}")
    series = range_test.rates(low, high, steps)
    losses = range_test.run(world, settings, series)
    curve = range_test.smoothed(losses)
    found = range_test.suggestion(series, losses)
    rows = [(i, *values) for i, values in enumerate(zip(series, losses, curve, strict=False), 1)]
    tables.write_text(out.with_suffix(".csv"), tables.as_csv(("step", "lr", "loss", "smoothed_loss"), rows))
    tuning_plots.draw_range_test(series, losses, curve, out, suggestion=found)
    print(f"{len(losses)} steps; figures: {out.with_suffix('.csv')}, {out}", file=sys.stderr)
    _say(found, range_test.landmarks(series, losses), settings.lr_scale)
    print(f"rule: {range_test.RULE}")
    return 0


def _say(found: float | None, landmarks: tuple[float, float] | None, lr_scale: str) -> None:
    if landmarks is None:
        print("no suggestion: the loss did not fall by 2 %; try other --from and --to, or more --steps")
    else:
        print(f"suggested: --lr {found:g} --lr-scale {lr_scale}")
        print(f"falls fastest at {landmarks[0]:.2g}, lowest at {landmarks[1]:.2g}")


if __name__ == "__main__":
    raise SystemExit(main())
