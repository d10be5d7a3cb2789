"""Training throughput of the engine and of PyTorch on this machine, alternating in one run, as a Markdown table.

Each round measures the engine, then every variant of PyTorch, for a few seconds each, so that whatever else the machine
does meets both. The ratio is taken in each round against the variant that was best over the rounds: its median, and the
smallest and largest. The last column compares with the best that PyTorch reached for that network at any of the batch
sizes. PyTorch may live in another environment:

    python scripts/bench_peers.py --peer-python ../torch/bin/python -o peers.md
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from lenet_mp.engine import isa
from lenet_mp.files import write_atomically
from lenet_mp.networks.model_files import find_model
from lenet_mp.networks.network import compile_network
from lenet_mp.parallel import threads
from lenet_mp.parallel.comm import Solo
from lenet_mp.rates import Workout, fma_peak, step_flops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lenet_mp.networks.network import Network

PEER = Path(__file__).with_name("peer_torch.py")
VARIANTS = ("eager", "eager channels-last", "eager channels-last bf16")
COMPILED = "compiled channels-last"
CASES = ("1:500", "1:50", "2:500", "2:50", "lenet5:64", "lenet5/28:64")
HEADINGS = ("model", "batch", "engine", "of FMA peak", "PyTorch's best", "which", "ratio", "smallest ... largest",
            "of its best at any batch")


@dataclass(frozen=True)
class Result:
    """One case: rates in images a second, medians over the rounds.

    Attributes
    ----------
    network : str
        Model, with its image size where that is not the model's own.
    share : float
        Of the peak in multiply-adds, 0..1.
    peer, best : float, str
        PyTorch's best rate, and of which variant.
    ratios : list of float
        Of each round, sorted.
    """

    network: str
    batch: int
    engine: float
    share: float
    peer: float
    best: str
    ratios: list[float]


class Peer:
    """The other program, in a process of its own."""

    def __init__(self, python: str, thread_count: int) -> None:
        self._process = subprocess.Popen([python, str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._requests = cast("IO[str]", self._process.stdin)
        self._answers = cast("IO[str]", self._process.stdout)
        self.version = self._ask({"threads": thread_count})

    def rate(self, network: Network, batch: int, variant: str, seconds: float) -> float:
        """Images a second of one variant."""
        layers = [vars(layer) for layer in network.layers]
        return float(self._ask({"layers": layers, "batch": batch, "variant": variant, "seconds": seconds}))

    def close(self) -> None:
        """End the process, whose loop ends with its input."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._answers.close()
        self._process.wait()

    def _ask(self, request: dict[str, Any]) -> Any:
        with contextlib.suppress(BrokenPipeError):  # it has ended; so has its output
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            self.close()
            raise SystemExit("bench_peers: PyTorch's process ended, see above: does --peer-python have torch?")
        return json.loads(answer)


def read_case(text: str) -> tuple[Network, int]:
    """Read MODEL[/SIZE]:BATCH."""
    name, _, batch = text.partition(":")
    name, _, size = name.partition("/")
    model = find_model(name)
    shape = (int(size), int(size), model.input_shape[2]) if size else model.input_shape
    return compile_network(model, shape), int(batch or 500)


def summarise(engine: Sequence[float], peers: dict[str, Sequence[float]]) -> tuple[str, list[float]]:
    """Return the best peer variant, by its median over the rounds, and the ratio to it in each round, sorted."""
    best = max(peers, key=lambda variant: statistics.median(peers[variant]))
    return best, sorted(ours / theirs for ours, theirs in zip(engine, peers[best], strict=True))


def run_case(text: str, peer: Peer, options: argparse.Namespace) -> Result:
    """Measure one case."""
    network, batch = read_case(text)
    workout = Workout(network, batch, options.threads)
    variants = (*VARIANTS, COMPILED) if options.compiled else VARIANTS
    engine: list[float] = []
    peak: list[float] = []
    peers: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(options.rounds):
        engine.append(workout.rate(workout.train, options.seconds))
        peak.append(fma_peak(options.threads))
        for variant in variants:
            peers[variant].append(peer.rate(network, batch, variant, options.seconds))
        print(f"{text}: {engine[-1]:,.0f} / {max(rates[-1] for rates in peers.values()):,.0f}", file=sys.stderr)
    best, ratios = summarise(engine, peers)
    share = statistics.median(engine) * step_flops(network.layers) / max(peak)
    return Result(text.partition(":")[0], batch, statistics.median(engine), share, statistics.median(peers[best]), best,
                  ratios)


def to_row(result: Result, results: Sequence[Result]) -> list[str]:
    """Return a result as a row of the table; the results are compared with those of the same network."""
    anywhere = max(other.peer for other in results if other.network == result.network)
    return [result.network, str(result.batch), f"{result.engine:,.0f}", f"{result.share:.0%}", f"{result.peer:,.0f}",
            result.best, f"{statistics.median(result.ratios):.1f} x",
            f"{result.ratios[0]:.1f} ... {result.ratios[-1]:.1f}", f"{result.engine / anywhere:.1f} x"]


def to_markdown(rows: Sequence[Sequence[str]], note: str) -> str:
    """Return a Markdown table under a line that says where and when."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    return f"{note}\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def processor() -> str:
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="MODEL[/SIZE]:BATCH", help=f"default: {CASES}")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PATH", help="a Python that has torch")
    parser.add_argument("--threads", type=int, default=threads.choose(Solo()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: minutes more")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    with contextlib.closing(Peer(options.peer_python, options.threads)) as peer:
        results = [run_case(case, peer, options) for case in options.cases]
    note = (f"Images/s of training steps, {options.threads} threads, {isa()}, {processor()}, PyTorch {peer.version}, "
            f"{time.strftime('%Y-%m-%d')}; medians of {options.rounds} rounds.")
    table = to_markdown([to_row(result, results) for result in results], note)
    if options.out:
        write_atomically(options.out, table.encode())
    print(table, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
