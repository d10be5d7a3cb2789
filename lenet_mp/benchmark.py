"""``lenet-mp benchmark``: how fast a model trains here, by layer, and what share of the machine's peak that is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lenet_mp import arguments, augmentation, cli, tables
from lenet_mp.networks.model_files import find_model
from lenet_mp.networks.network import compile_network
from lenet_mp.parallel import threads
from lenet_mp.parallel.comm import Solo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lenet_mp.networks.network import Network

EXAMPLE = """\
examples:
  lenet-mp benchmark --model 1
  lenet-mp benchmark --model lenet5 --batch-size 64 --threads 1 --json
  LENET_MP_ISA=avx2 lenet-mp benchmark --model 2 --augment flip,crop
"""
GIGA = 1e9


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "benchmark",
        description="Measure training steps on random pixels in memory, single layers, and the\n"
        "machine's peak in fused multiply-adds.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--model", default="1", metavar="NAME", help="1, 2, lenet5 or a .toml file (default: 1)")
    parser.add_argument("--size", type=arguments.size, metavar="N|HxW", help="image size (default: the model's)")
    parser.add_argument("--batch-size", type=arguments.positive, default=500, metavar="N", help="default: 500")
    parser.add_argument("--threads", type=arguments.positive, metavar="N", help="default: as in training")
    parser.add_argument("--seconds", type=arguments.positive, default=3, metavar="N", help="of each rate (default: 3)")
    parser.add_argument(
        "--augment", default=augmentation.NONE, metavar="KINDS", help="train with it too, as in 'train' (none)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON record in place of tables")
    return parser


@cli.command("benchmark")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0."""
    options = build_parser().parse_args(argv)
    model = find_model(options.model)
    height, width = options.size or model.input_shape[:2]
    network = compile_network(model, (height, width, model.input_shape[2]), None)
    thread_count = options.threads or threads.choose(Solo())
    record = measure(network, options.batch_size, thread_count, options.seconds, options.augment)
    if options.json:
        json.dump(record, sys.stdout, indent=2)
        print()
    else:
        tables.print_text([to_text(record)])
    return 0


def measure(
    network: Network, batch: int, thread_count: int, seconds: float, augment: str = augmentation.NONE
) -> dict[str, Any]:
    """Return all figures by name; rates are per second, FLOPs plain numbers, shares 0..1."""
    changes = augmentation.parse(augment)
    changes.padding(network.input_shape)  # refuses what cannot be
    from lenet_mp import rates  # noqa: PLC0415 - the C core is not needed to show the help

    workout = rates.Workout(network, batch, thread_count, changes)
    peak = rates.fma_peak(thread_count)
    train, *augmented = workout.rates([workout.train, *([workout.train_augmented] if changes else [])], seconds)
    evaluate = workout.rate(workout.evaluate, seconds)
    one = rates.fma_peak(1)
    peak = max(peak, rates.fma_peak(thread_count))
    flops = rates.step_flops(network.layers)
    return {
        "model": network.model.name,
        "input_shape": list(network.input_shape),
        "batch_size": batch,
        "threads": thread_count,
        "isa": workout.plan.isa,
        "scratch_bytes": workout.plan.scratch_bytes,
        "flops_per_image": flops,
        "peak_flops_per_second": peak,
        "train_images_per_second": train,
        "augment": augment,
        "augmented_images_per_second": augmented[0] if augmented else None,
        "evaluate_images_per_second": evaluate,
        "train_flops_per_second": train * flops,
        "train_share_of_peak": train * flops / peak,
        "layers": [
            vars(row) | {"share_of_peak": row.flops_per_second / one if row.flops_per_second else None}
            for row in rates.layer_rates(network.layers)
        ],
    }


def to_text(record: dict[str, Any]) -> str:
    """Return the record as a few lines and a table of layers."""
    shape = " x ".join(map(str, record["input_shape"]))
    plural = "s" if record["threads"] > 1 else ""
    count = f"{record['threads']} thread{plural}"
    speed, peak = (record[key] / GIGA for key in ("train_flops_per_second", "peak_flops_per_second"))
    share = f"{speed:,.1f} GFLOP/s, {record['train_share_of_peak']:.1%} of the measured peak, {peak:,.1f}"
    lines = [
        f"model {record['model']}, {shape}, batch size {record['batch_size']}, {count}, {record['isa']}\n",
        f"training       {record['train_images_per_second']:>10,.0f} images/s   {share}\n",
        *_augmented_line(record),
        f"forward only   {record['evaluate_images_per_second']:>10,.0f} images/s\n\n",
    ]
    rows = [
        (row["layer"], row["kind"].replace("_", " "), row["direction"], f"{row['microseconds']:.2f}",
         f"{row['flops_per_second'] / GIGA:.1f}" if row["flops_per_second"] else "",
         f"{row['share_of_peak']:.1%}" if row["share_of_peak"] else "")
        for row in record["layers"]
    ]
    heading = ("layer", "kind", "pass", "us/image", "GFLOP/s", "of peak")
    lines.append(tables.as_text(heading, rows, left=3))
    lines.append("\nLayers: alone, on one thread, data in the cache. A step runs the first ones together.\n")
    return "".join(lines)


def _augmented_line(record: dict[str, Any]) -> list[str]:
    rate = record["augmented_images_per_second"]
    if rate is None:
        return []
    cost = 1 - rate / record["train_images_per_second"]
    return [f"augmented      {rate:>10,.0f} images/s   {cost:.1%} less, with {record['augment']}\n"]


if __name__ == "__main__":
    raise SystemExit(main())
