"""``lenet-mp features``: draw what every convolution and pooling of a trained network makes of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lenet_mp import cli
from lenet_mp.training import run_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EPILOG = """\
example:
  lenet-mp features runs/model-1-1 cat.jpg -o maps/
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = cli.Parser(
        "features",
        description="Draw the feature maps of one image: input.png, and one PNG for every\nconvolution and pooling.",
        epilog=EPILOG,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder (its best weights) or .ckpt file")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="where to write (default: features/IMAGE in the run folder)"
    )
    return parser


@cli.command("features")
def main(argv: Sequence[str] | None = None) -> int:
    """Draw the maps and print the paths; return 0."""
    options = build_parser().parse_args(argv)
    from lenet_mp.results import feature_maps  # noqa: PLC0415 - loads the C core, which --help can do without
    from lenet_mp.results.classifier import Classifier  # noqa: PLC0415

    classifier = Classifier.load(options.run)
    image = classifier.read_image(options.image)
    out = options.out or run_folder.place_in(classifier.path.parent, "features", options.image.stem)
    order = classifier.checkpoint.channel_order
    for path in feature_maps.save(classifier.feature_maps(image), image, out, channel_order=order):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
