"""``lenet-mp tune``: search over training options by validation accuracy, one run folder a trial."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_mp import arguments, cli, files, tables
from lenet_mp.errors import DataError, DivergenceError, UsageError
from lenet_mp.parallel import comm
from lenet_mp.training import config, config_options, single
from lenet_mp.training.config import Config
from lenet_mp.tuning import search

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.parallel.comm import Comm
    from lenet_mp.tuning.trials import Trial

EPILOG = """\
Other options of 'train' hold for all trials. The same command goes on after an
interruption; OUT/best.toml is for 'train --config'.

examples:
  lenet-mp tune --data data/ --epochs 3 --try lr=1e-5,5e-5 --try momentum=0.9,0
  lenet-mp tune --data data/ --recipe modern --try lr=1e-3..0.2 --random 10
"""
SHOWN = ("model", "data", "epochs")


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "tune",
        usage="lenet-mp tune --try OPTION=VALUES [--try ...] [OPTION...]",
        description="Train with every combination of values and rank them by validation accuracy.",
        epilog=EPILOG,
    )
    config_options.add(parser.add_argument_group("as in 'train'"), shown=SHOWN)
    own = parser.add_argument_group("the search")
    own.add_argument("--config", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    own.add_argument("--try", action="append", dest="tries", required=True, metavar="OPTION=VALUES",
                     help="what to try: A,B,... or, with --random, LOW..HIGH")  # fmt: skip
    own.add_argument("--random", type=arguments.positive, metavar="N", help="draw N combinations by --seed")
    own.add_argument("--out", type=Path, default=Path("runs/tune"), metavar="OUT", help="folder (runs/tune)")
    return parser


@cli.command("tune")
def main(argv: Sequence[str] | None = None) -> int:
    """Work all trials and print the table; return 0, or the exit code of the trial that was interrupted."""
    options = vars(build_parser().parse_args(argv))
    tries, random, out, file = (options.pop(name) for name in ("tries", "random", "out", "config"))
    world = comm.connect()
    if world.size > 1:
        return single.refuse("tune", world)
    options = config.with_recipe(config.read_options(file) if file else {}, options)
    settings = Config(**options)
    choices = [search.read(text) for text in tries]
    if len({choice.name for choice in choices}) < len(choices):
        raise UsageError("an option stands in two --try: write all its values in one")
    found = list(search.draws(choices, random, settings.seed) if random else search.grid(choices))
    _require_validation(settings.data)
    files.make_folder(out)
    trials, code = _work(world, found, options, settings.epochs, out)
    ranked = _ranked(trials)
    tables.print_text([_as_text(ranked)])
    if code:
        print(f"lenet-mp tune: stopped; the same command goes on in {out}", file=sys.stderr)
    elif ranked[0].accuracy is None:
        raise DivergenceError("no trial came to the end of an epoch: try lower rates")
    else:
        print(f"best: python -m lenet_mp.train --config {out / 'best.toml'}")
    return code


def _require_validation(data: str) -> None:
    from lenet_mp.data.shards import open_dataset  # noqa: PLC0415 - h5py, which --help can do without

    if data and open_dataset(data).validation is None:
        raise DataError(f"{data} has no validation split to choose by: prepare the data set with one")


def _work(
    world: Comm, combinations: Sequence[search.Options], options: dict[str, Any], epochs: int, out: Path
) -> tuple[list[Trial], int]:
    """Work all trials that are not done; stop at the first that is interrupted."""
    from lenet_mp.tuning import trials  # noqa: PLC0415 - loads all that training needs

    made = [trials.look(tried, out / search.folder_name(tried), epochs) for tried in combinations]
    for trial in made:
        trials.require_same(trial, options)
    for number, trial in enumerate(made):
        where = f"trial {number + 1} of {len(made)}: {trial.folder.name}"
        print(f"{where}{' is done' if trial.state == trials.DONE else ''}", file=sys.stderr, flush=True)
        code = 0
        if trial.state != trials.DONE:
            made[number], code = trials.work(world, trial, options, epochs)
        _write(made, out)
        if code:
            return made, code
    return made, 0


def _write(trials: Sequence[Trial], out: Path) -> None:
    """Write table, picture and best options, as far as the search has come."""
    from lenet_mp.tuning import tuning_plots  # noqa: PLC0415 - matplotlib

    header, *rows = _rows(_ranked(trials))
    tables.write_text(out / "trials.csv", tables.rows_as_csv([header, *rows]))
    best = _ranked(trials)[0]
    known = best.accuracy is not None
    tried = {name: [_number(trial.tried[name]) for trial in trials] for name in trials[0].tried}
    shares = [trial.accuracy for trial in trials]
    tuning_plots.draw_search(tried, shares, trials.index(best) if known else None, out / "trials.png")
    if known:
        import tomli_w  # noqa: PLC0415

        tables.write_text(out / "best.toml", tomli_w.dumps(best.config))


def _number(value: search.Value) -> float | str:
    """Return a rate, which options hold as text, as a number."""
    try:
        return float(value)
    except ValueError:
        return str(value)


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Sort by accuracy, then by loss; trials without either come last."""
    return sorted(trials, key=lambda t: (-(t.accuracy if t.accuracy is not None else -1), t.best.get("loss", 0)))


def _rows(trials: Sequence[Trial]) -> list[tuple[tables.Cell, ...]]:
    """Return a heading and a row a trial."""
    names = tuple(trials[0].tried)
    rows: list[tuple[tables.Cell, ...]] = [(*names, "val_top1", "epoch", "loss", "state", "folder")]
    for trial in trials:
        values = [trial.best.get(key) for key in ("val_top1", "epoch", "loss")]
        cells = ["" if value is None else value for value in values]
        rows.append((*(str(trial.tried[name]) for name in names), *cells, trial.state, trial.folder.name))
    return rows


def _as_text(trials: Sequence[Trial]) -> str:
    header, *rows = _rows(trials)
    texts = [tuple(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row[:-1]) for row in rows]
    return tables.as_text([str(cell) for cell in header[:-1]], texts, left=len(trials[0].tried))


if __name__ == "__main__":
    raise SystemExit(main())
