"""The options of a training run: one frozen object, its defaults in sight, saved with every run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from lenet_mp import augmentation, documents, files, suggestions
from lenet_mp.errors import UsageError
from lenet_mp.networks.network import INITIALISERS
from lenet_mp.networks.normalization import DEFAULT, RANGES
from lenet_mp.training.schedule import ORIGINAL, SCHEDULES, learning_rates

if TYPE_CHECKING:
    from pathlib import Path

MAX_SAMPLES_A_STEP = 1 << 15
MAX_SEED = (1 << 63) - 1


def _option(default: Any, help_text: str, **extra: Any) -> Any:
    return field(default=default, metadata={"help": help_text, **extra})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What decides a run's result, and where it reads and writes; every field is an option of the command."""

    model: str = _option("1", "1, 2, lenet5, or a .toml file", metavar="NAME")
    data: str = _option("", "from 'prepare'; left out: a sample of Fashion-MNIST", metavar="FOLDER")
    epochs: int = _option(10, "passes over the training set", low=1, high=1_000_000, metavar="N")
    batch_size: int = _option(
        500, "samples a step over all ranks together", low=1, high=MAX_SAMPLES_A_STEP, metavar="N"
    )
    streams: int = _option(0, "parts of an epoch that ranks share; 0: 8 or fewer", low=0, high=65_536, metavar="N")
    recipe: str = _option(
        "original", "original or modern, sets most of these", choices=("original", "modern"), metavar="NAME"
    )
    lr: str = _option(ORIGINAL, "RATE or RATE*EPOCHS,...", metavar="RATES")
    lr_scale: str = _option(
        "sum", "rate of a batch's gradients: sum, mean or sqrt", choices=("sum", "mean", "sqrt"), metavar="RULE"
    )
    schedule: str = _option(
        "original", "constant, step, cosine, plateau, or as --lr", choices=SCHEDULES, metavar="RULE"
    )
    warmup: float = _option(0.0, "epochs in which the rate rises from zero", low=0.0, high=1e6, metavar="EPOCHS")
    momentum: float = _option(0.95, "momentum coefficient", low=0.0, high=1.0, metavar="X")
    nesterov: bool = _option(default=False, help_text="Nesterov's momentum")
    weight_decay: float = _option(0.0, "weight decay coefficient", low=0.0, high=1e6, metavar="X")
    clip_norm: float = _option(0.0, "largest norm of a batch's mean gradient; 0: any", low=0.0, high=1e9, metavar="X")
    label_smoothing: float = _option(0.0, "part of each label spread over all classes", low=0.0, high=1.0, metavar="X")
    class_weights: str = _option(
        "", "balanced, a number a class, or file of CLASS WEIGHT", metavar="W"
    )
    augment: str = _option(
        augmentation.NONE, f"changes of images: {','.join(augmentation.KINDS)}", metavar="KINDS"
    )
    patience: int = _option(
        0, "stop after so many epochs without gain; 0: never", low=0, high=1_000_000, metavar="EPOCHS"
    )
    init: str = _option("Xavier", "Xavier, Gaussian_dist or Fan-in", choices=tuple(INITIALISERS), metavar="NAME")
    init_from: str = _option("", "weights of a run, .ckpt, .npz or .safetensors file", metavar="FILE")
    normalize: str = _option(
        DEFAULT, "pixels to [0, 1], [-1, 1] or lenet5's", choices=tuple(RANGES), metavar="RANGE"
    )
    seed: int = _option(0, "of initial weights, order, augmentation", low=0, high=MAX_SEED, metavar="N")
    train_accuracy: str = _option(
        "full", "full: after each epoch; running: meanwhile", choices=("full", "running"), metavar="WHEN"
    )
    feature_image: str = _option("", "whose feature maps are saved (a validation image)", metavar="FILE")

    def __post_init__(self) -> None:
        for option in fields(self):
            _check(option.name, getattr(self, option.name), type(option.default), option.metadata)
        learning_rates(self.lr, 1)
        augmentation.parse(self.augment)


_MODERN = {
    "batch_size": 32,
    "lr": "0.08",
    "lr_scale": "mean",
    "schedule": "cosine",
    "warmup": 0.5,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "clip_norm": 5.0,
    "augment": "flip",
}
RECIPES: dict[str, dict[str, Any]] = {
    "original": {option.name: option.default for option in fields(Config) if option.name in _MODERN},
    "modern": _MODERN,
}
"""Options that a recipe sets; those given beside it win."""

_NAMES_IN_ORDER = [option.name for option in fields(Config)]
LEARNING = frozenset(_NAMES_IN_ORDER[_NAMES_IN_ORDER.index("recipe") : _NAMES_IN_ORDER.index("patience") + 1])
"""Options of how the weights are moved; the others say what is trained on what."""

FREE_ON_RESUME = frozenset({"data", "epochs", "train_accuracy", "feature_image"})
"""Options that may differ when a run goes on; the others would make it another run."""


def flag(name: str) -> str:
    """Command-line spelling of an option."""
    return "--" + name.replace("_", "-")


def read_options(path: Path) -> dict[str, Any]:
    """Read options from a TOML file such as a run's own ``config.toml``; ``UsageError`` for unknown keys."""
    try:
        options = documents.parse_toml(files.read(path, documents.LARGEST_TOML))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    return check_options(options, str(path))


def with_recipe(*layers: dict[str, Any]) -> dict[str, Any]:
    """Lay options over each other, each layer over those of the recipe that it names: a file, then a command line."""
    result: dict[str, Any] = {}
    for options in layers:
        result |= RECIPES.get(str(options.get("recipe", "")), {}) | options
    return result


def check_options(options: dict[str, Any], source: str) -> dict[str, Any]:
    """Return ``options`` if every key is an option, else say which is not."""
    known = {option.name for option in fields(Config)}
    unknown = sorted(set(options) - known)
    if unknown:
        meant = suggestions.option(unknown[0], [flag(name)[2:] for name in known]).replace("-", "_")
        hint = f"did you mean '{meant}'?" if meant else f"it can set {', '.join(sorted(known))}"
        raise UsageError(f"{source}: unknown option '{unknown[0]}'; {hint}")
    return options


def resumed(saved: Config, given: dict[str, Any]) -> Config:
    """Return the saved options with ``given`` ones laid over; ``UsageError`` if that would make it another run."""
    config = replace(saved, **given)
    before, after = asdict(saved), asdict(config)
    # How fast some rates fall depends on when the run is to end.
    free = FREE_ON_RESUME - ({"epochs"} if saved.schedule in ("cosine", "step") else set())
    changed = [key for key in before if key not in free and before[key] != after[key]]
    if changed:
        key = changed[0]
        raise UsageError(
            f"{flag(key)} {after[key]} does not fit the saved run, which has {before[key]}: "
            f"leave it out to resume, or start a new run"
        )

    return config


def _check(name: str, value: object, kind: type, limits: Any) -> None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(max(min(value, _LARGE), -_LARGE))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{flag(name)} must be {_NAMES[kind]}, not {value!r}")
    if "low" in limits and not limits["low"] <= value <= limits["high"]:
        raise UsageError(f"{flag(name)} must be from {limits['low']} to {limits['high']}, not {value}")
    if "choices" in limits and value not in limits["choices"]:
        raise UsageError(f"{flag(name)} must be one of {', '.join(limits['choices'])}, not '{value}'")


_LARGE = 10**300
"""Beyond every limit, and a float: Python's whole numbers go further than those."""
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
