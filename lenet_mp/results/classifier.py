"""A trained network, ready to take images: everything it needs to know comes from its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lenet_mp import engine
from lenet_mp.data import images
from lenet_mp.data.arrays import as_images, as_split
from lenet_mp.errors import CheckpointError, DivergenceError
from lenet_mp.networks.normalization import scale_and_offset
from lenet_mp.parallel import threads
from lenet_mp.parallel.comm import Solo
from lenet_mp.results import feature_maps, metrics
from lenet_mp.training import checkpoint, evaluation, run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from lenet_mp.data.images import ImagePixels
    from lenet_mp.data.shards import Dataset, Split
    from lenet_mp.explaining.explanation import Scene
    from lenet_mp.results.feature_maps import Maps
    from lenet_mp.training.evaluation import Scores

    Logits = NDArray[np.float32]


class Classifier:
    """The network of a checkpoint.

    Attributes
    ----------
    path : Path
        The checkpoint file.
    checkpoint : Checkpoint
    network : Network
    parameters : (P,) float32
    class_names : tuple of str
        The position is the class's number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = checkpoint.load(path)
        self.network = self.checkpoint.network
        self.parameters = self.checkpoint.parameters
        self.class_names = self.checkpoint.class_names
        self._scale, self._offset = scale_and_offset(self.checkpoint.normalize)
        self._plan = engine.Plan(
            self.network.layers, scale=self._scale, offset=self._offset, threads=threads.choose(Solo())
        )

    @classmethod
    def load(cls, run: Path) -> Classifier:
        """Load a run folder's best weights, or the checkpoint file ``run``; ``CheckpointError`` if there are none."""
        return cls(run_folder.find_checkpoint(run))

    def read_image(self, path: Path) -> ImagePixels:
        """Read an image file as the training images were read: (H, W, C) uint8; ``DataError`` if it cannot be."""
        height, width, channels = self.network.input_shape
        order, resampling = self.checkpoint.channel_order, self.checkpoint.resampling
        return images.load_image(
            path, size=(height, width), channels=channels, channel_order=order, resampling=resampling
        )

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        """Logits (N, K) of images (N, H, W, C); ``DivergenceError`` if they are not finite."""
        pixels = np.ascontiguousarray(pixels, np.uint8)
        addresses = pixels.ctypes.data + np.arange(len(pixels), dtype=np.uintp) * np.uintp(pixels.strides[0])
        return self._finite(self._plan.forward(self.parameters, addresses))

    def probabilities(self, images: ArrayLike) -> NDArray[np.float64]:
        """Probability of each class (N, K) for images (N, H, W, C) uint8; (N, H, W) where there is one channel."""
        return metrics.softmax(self.logits(as_images(images, self.network.input_shape)))

    def predict(self, images: ArrayLike) -> NDArray[np.intp]:
        """Return the number of the most likely class (N,) of images as for :meth:`probabilities`."""
        best: NDArray[np.intp] = self.logits(as_images(images, self.network.input_shape)).argmax(axis=1)
        return best

    def evaluate(self, images: ArrayLike, labels: ArrayLike) -> Scores:
        """Loss and accuracies over images and their labels (N,) integers, by the same sums as in training."""
        return self.scores([as_split(images, labels, self.network.input_shape, self.network.classes)])

    @property
    def history(self) -> list[dict[str, Any]]:
        """Figures of the run's finished epochs: the rows of ``metrics.csv``."""
        folder = self.path.parent
        if self.path.name == run_folder.BEST and (folder / run_folder.LAST).is_file():
            return run_folder.load_newest(folder).history
        return self.checkpoint.history

    def split_logits(self, splits: Sequence[Split]) -> Logits:
        """Logits (N, K) of all samples of ``splits``, in their order; ``DivergenceError`` if they are not finite."""
        return self._finite(np.concatenate([evaluation.logits(self._plan, self.parameters, s) for s in splits]))

    def scores(self, splits: Sequence[Split]) -> Scores:
        """Loss and accuracies over ``splits``, by the same sums as in training."""
        return evaluation.evaluate(self._plan, self.parameters, splits, Solo())

    def feature_maps(self, image: ArrayLike) -> Maps:
        """What each convolution and pooling makes of ``image`` (H, W, C) uint8: (H, W, C) float32 by layer name."""
        pixels = as_images(np.asarray(image)[np.newaxis], self.network.input_shape)[0]
        return feature_maps.compute(self.network, self.parameters, pixels, self._scale, self._offset)

    def scene(self, image: ImagePixels) -> Scene:
        """Return ``image`` in the network, to take apart what becomes of it."""
        from lenet_mp.explaining.explanation import Scene  # noqa: PLC0415 - only for explanations

        return Scene(self.network, self.parameters, image, self._scale, self._offset)

    def channel_names(self, number: int) -> Sequence[str]:
        """Names of the channels that go into layer ``number``: colours at the first, numbers at the others."""
        if number == 0:
            return [{"R": "red", "G": "green", "B": "blue"}.get(c, "grey") for c in self.checkpoint.channel_order]
        return [str(channel) for channel in range(self.network.layers[number].input_shape[2])]

    def require_fit(self, dataset: Dataset) -> None:
        """Refuse a data set of other images or classes with a ``CheckpointError`` that names what differs."""
        found = dataset.image_shape, dataset.channel_order
        wanted = self.network.input_shape, self.checkpoint.channel_order
        if found != wanted:
            raise CheckpointError(
                f"{dataset.folder} holds images of {_form(*found)}, but {self.path} was trained on {_form(*wanted)}: "
                "prepare the data set in that form"
            )
        if dataset.class_names != self.class_names:
            raise CheckpointError(
                f"{dataset.folder} has other classes than {self.path}: {self._difference(dataset.class_names)}; "
                "prepare it with the same classes.txt"
            )

    def _difference(self, names: Sequence[str]) -> str:
        if len(names) != len(self.class_names):
            return f"{len(names)} instead of {len(self.class_names)}"
        place = next(i for i, (a, b) in enumerate(zip(names, self.class_names, strict=True)) if a != b)
        return f"class {place} is '{names[place]}' instead of '{self.class_names[place]}'"

    def _finite(self, logits: Logits) -> Logits:
        if not np.isfinite(logits).all():
            raise DivergenceError(f"{self.path} gives values that are not finite: the training diverged, use another")
        return logits


def _form(shape: tuple[int, int, int], order: str) -> str:
    return f"{' x '.join(map(str, shape))} {order}"
