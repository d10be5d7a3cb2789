"""Options of a run: defaults, checks, files, resuming."""

from dataclasses import asdict

import pytest
import tomli_w

from lenet_mp import train
from lenet_mp.errors import UsageError
from lenet_mp.training import config_options
from lenet_mp.training.config import RECIPES, Config, read_options, resumed, with_recipe
from lenet_mp.training.schedule import ORIGINAL


def test_defaults_are_the_original_recipe():
    """Left alone, a run is the original's: model 1, ten epochs, batches of 500, momentum 0.95, Xavier, [-1, 1]."""
    config = Config()
    assert (config.model, config.epochs, config.batch_size) == ("1", 10, 500)
    assert (config.momentum, config.weight_decay, config.init, config.normalize) == (0.95, 0, "Xavier", "n1p1")
    assert (config.lr, config.schedule, config.lr_scale, config.clip_norm) == (ORIGINAL, "original", "sum", 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"epochs": 0}, "--epochs must be from 1"),
        ({"epochs": 2.5}, "--epochs must be a whole number"),
        ({"epochs": True}, "--epochs must be a whole number"),
        ({"batch_size": 0}, "--batch-size must be from 1"),
        ({"streams": -1}, "--streams must be from 0"),
        ({"momentum": 1.5}, "--momentum must be from 0"),
        ({"momentum": float("nan")}, "--momentum must be from 0"),
        ({"weight_decay": "x"}, "--weight-decay must be a number"),
        ({"weight_decay": 10**400}, "--weight-decay must be from 0"),
        ({"momentum": -(10**400)}, "--momentum must be from 0"),
        ({"seed": -1}, "--seed must be from 0"),
        ({"init": "zeros"}, "--init must be one of Xavier"),
        ({"normalize": "x"}, "--normalize must be one of 0p1"),
        ({"lr": "fast"}, "cannot read learning rate 'fast'"),
        ({"model": 1}, "--model must be text"),
    ],
)
def test_bad_options_are_refused(options, complaint):
    """Every option is checked; the message has the option as the user types it."""
    with pytest.raises(UsageError, match=complaint.replace("(", r"\(")):
        Config(**options)


def test_a_config_file_round_trips(tmp_path):
    """The config.toml of a run gives the same options back."""
    config = Config(model="2", lr="0.1*3", seed=7, weight_decay=1e-4)
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(asdict(config)))
    assert Config(**read_options(path)) == config


@pytest.mark.parametrize(
    ("text", "complaint"), [("epoch = 3", "unknown option 'epoch'"), ("epochs", "not valid TOML"), (None, "No such")]
)
def test_bad_config_files_are_refused(tmp_path, text, complaint):
    """A missing file, one that is no TOML, and unknown options are told with the file's name."""
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as error:
        read_options(path)
    assert "bad.toml" in str(error.value)


def test_whole_numbers_serve_as_numbers():
    """A TOML file may say ``momentum = 0`` for 0.0."""
    assert Config(momentum=0).momentum == 0


def test_resuming_keeps_what_makes_the_run():
    """Epochs and places may change on resume; an option that changes the result may not."""
    saved = Config(seed=3)
    assert resumed(saved, {"epochs": 20, "data": "elsewhere"}).epochs == 20
    assert resumed(saved, {"seed": 3}) == saved
    with pytest.raises(UsageError, match="--seed 4 does not fit the saved run, which has 3"):
        resumed(saved, {"seed": 4})


def test_the_end_of_a_falling_rate_cannot_be_moved():
    """Where the rate depends on the number of epochs, a resume cannot change it."""
    assert resumed(Config(schedule="constant"), {"epochs": 20}).epochs == 20
    with pytest.raises(UsageError, match="--epochs 20 does not fit the saved run"):
        resumed(Config(schedule="cosine"), {"epochs": 20})


def test_a_recipe_sets_what_is_not_given():
    """The modern recipe sets its options; those given beside it win; all of it is a valid set of options."""
    options = with_recipe({"recipe": "modern", "momentum": 0.8})
    assert options == RECIPES["modern"] | {"recipe": "modern", "momentum": 0.8}
    assert Config(**options).schedule == "cosine"
    assert with_recipe({"seed": 1}) == {"seed": 1}
    with pytest.raises(UsageError, match="--recipe must be one of original, modern"):
        Config(**with_recipe({"recipe": "old"}))


def test_a_recipe_on_the_command_line_wins_over_a_file():
    """A recipe named beside a file replaces the file's options that it sets, and no others."""
    file = asdict(Config(seed=4, momentum=0.5))
    options = with_recipe(file, {"recipe": "modern", "clip_norm": 1.0})
    assert (options["seed"], options["momentum"], options["clip_norm"]) == (4, 0.9, 1.0)
    back = with_recipe(options, {"recipe": "original"})
    assert (back["momentum"], back["schedule"], back["seed"]) == (0.95, "original", 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, []),
        ({"recipe": "modern"}, ["--recipe", "modern"]),
        ({"recipe": "modern", "augment": "none", "nesterov": False, "batch_size": 500},
         ["--batch-size", "500", "--recipe", "modern", "--no-nesterov", "--augment", "none"]),
        ({"nesterov": True, "model": "a model.toml", "seed": 3, "warmup": 1.5},
         ["--model", "a model.toml", "--warmup", "1.5", "--nesterov", "--seed", "3"]),
    ],
)  # fmt: skip
def test_a_command_line_gives_the_saved_options_again(given, words):
    """The words that repeat a run say no more than its recipe does not, and are understood as they were meant."""
    saved = Config(**with_recipe(given))
    assert config_options.words(asdict(saved)) == words
    typed = vars(train.build_parser().parse_args(words))
    known = {name: value for name, value in typed.items() if name in asdict(saved)}
    assert Config(**with_recipe(known)) == saved
