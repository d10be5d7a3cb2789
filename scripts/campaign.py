"""Try to break the program, many times over, and count.

Every file of scripts/campaigns/ that has a function ``run`` is a campaign: it kills, cuts power, fills disks, flips
bits, feeds garbage, and checks what was promised after each attempt. Each ends with one line; `all` repeats these in a
table.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tests"), str(CHECKOUT / "scripts")]

import h5py  # noqa: E402 - after the path, like all below
import numpy as np  # noqa: E402

import lenet_mp  # noqa: E402

if TYPE_CHECKING:
    from types import ModuleType

    from campaigns.tally import Tally


def campaigns() -> dict[str, ModuleType]:
    """Return the campaigns by name.

    A campaign is a module with ``SMALL`` and ``FULL``, its sizes, and ``run(size, seed, folder)``, which works in an
    empty folder and returns its Tally. Its docstring's first line says what it does.
    """
    names = sorted(path.stem for path in Path(__file__).with_name("campaigns").glob("*.py"))
    modules = {name.replace("_", "-"): importlib.import_module(f"campaigns.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def size_of(campaign: ModuleType, size: str) -> int:
    """Return the number that ``size`` (small, full or a number) means to this campaign."""
    named = {"small": campaign.SMALL, "full": campaign.FULL}
    return named[size] if size in named else int(size)


def conduct(name: str, campaign: ModuleType, size: str, seed: int) -> tuple[Tally, str]:
    """Run one campaign and print its line, after its failures."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"campaign-{name}-") as folder:
        tally = campaign.run(size_of(campaign, size), seed, Path(folder))
    for failure in tally.failures:
        print(f"{name}: FAILED {failure}")
    line = tally.line(name, seed, time.monotonic() - start)
    print(line, flush=True)
    return tally, line


def positive_size(text: str) -> str:
    """Check an argument of --size."""
    if text not in {"small", "full"} and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not small, full or a positive number")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 if anything failed."""
    known = campaigns()
    listing = "\n".join(
        f"  {name:18}{(module.__doc__ or '').splitlines()[0]} ({module.SMALL:,}; full: {module.FULL:,})"
        for name, module in known.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"campaigns:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="+", choices=[*known, "all"], metavar="NAME", help="campaigns, or all")
    parser.add_argument("--size", default="small", type=positive_size, help="small (default), full, or a number")
    parser.add_argument("--seed", default=0, type=int, help="another seed makes other attempts (default 0)")
    args = parser.parse_args(arguments)
    names = list(known) if "all" in args.name else args.name
    done = [conduct(name, known[name], args.size, args.seed) for name in names]
    if len(done) > 1:
        print(f"\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, lenet_mp {lenet_mp.__version__}, {platform.platform()},")
        libraries = f"h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"
        print(f"Python {platform.python_version()}, NumPy {np.__version__}, {libraries}:")
        print("\n".join(line for _, line in done))
    return int(any(tally.failed for tally, _ in done))


if __name__ == "__main__":
    raise SystemExit(main())
