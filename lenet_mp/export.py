"""``lenet-mp export``: hand a trained network over to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli
from lenet_mp.results.exporters import EXPORTERS
from lenet_mp.training import checkpoint, run_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EPILOG = """\
formats:
  npz          numpy.load(FILE) gives all arrays by layer name (C1.weight, ...),
               class_names, input_shape, channel_order, scale, offset (a pixel
               enters as pixel * scale + offset) and the model's table as JSON
  safetensors  the same; all but the arrays as metadata
  onnx         a graph from stored pixels, uint8 (N, H, W, C), to logits (N, K)
  c            FILE.c and FILE.h without any library, with a self-test

examples:
  lenet-mp export runs/model-1-1
  lenet-mp export runs/model-1-1 --format onnx -o model-1.onnx
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser("export", description="Write a trained network for other programs.", epilog=EPILOG)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder (its best weights) or .ckpt file")
    parser.add_argument("--format", choices=tuple(EXPORTERS), default="npz", help="(default: npz)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to write (default: model.FORMAT in the run folder)"
    )
    return parser


@cli.command("export")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the files and print their paths; return 0."""
    options = build_parser().parse_args(argv)
    path = run_folder.find_checkpoint(options.run)
    out = options.out or path.parent / f"model.{options.format}"
    for written in EXPORTERS[options.format](checkpoint.load(path), out):
        print(written)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
