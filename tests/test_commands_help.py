"""What every command answers to ``--help``, and to being called without its arguments."""

from __future__ import annotations

import importlib
import subprocess
import sys

import programs
import pytest

from lenet_mp.__main__ import COMMANDS
from lenet_mp.__main__ import main as lenet_mp

LINES = {"prepare": 50, "train": 50, "scale": 30}
"""Commands whose help is longer than 25 lines, and how long it may be."""
ARGUMENTS = {
    "prepare": ["--folder", "images", "--out", "data"],
    "verify": ["data"],
    "completion": ["bash"],
    **{command: [] for command in ("train", "doctor", "scale", "summary", "benchmark")},
    "predict": ["run", "image"],
    "features": ["run", "image"],
    "explain": ["run", "image"],
    "find-lr": [],
    "tune": ["--try", "lr=1"],
}
"""What a command needs beside options, where that is not a run."""


def module_of(command):
    return f"lenet_mp.{command.replace('-', '_')}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen_and_gives_an_example(command, capsys, monkeypatch):
    """Help is at most so many lines of 80 columns, with an example that begins with the command."""
    monkeypatch.setenv("COLUMNS", "80")
    module = importlib.import_module(module_of(command))
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= LINES.get(command, 25)
    assert max(map(len, lines)) <= 80
    examples = "\n".join(lines).partition("\nexample")[2]
    assert f"lenet-mp {command}" in examples


@pytest.mark.parametrize("command", COMMANDS)
def test_unknown_option_is_one_line(command, capsys):
    """A mistyped option ends in code 2 and one line that names it and where help is."""
    module = importlib.import_module(module_of(command))
    arguments = ARGUMENTS.get(command, ["run"])
    assert module.main([*arguments, "--nosuch"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--nosuch" in error
    assert f"lenet-mp {command} --help" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_load_the_heavy_libraries(command):
    """Neither the C core (but for scale's arithmetic) nor matplotlib is loaded for a question about options."""
    code = (
        "import sys, importlib\n"
        f"importlib.import_module('{module_of(command)}').build_parser()\n"
        "print(sorted({'matplotlib', 'lenet_mp._kernels', 'mpi4py', 'jinja2', 'onnx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout in ("[]\n", "['lenet_mp._kernels']\n" if command == "scale" else "")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("trian", "did you mean 'train'?"),
        ("eval", "did you mean 'evaluate'?"),
        ("Train", "did you mean 'train'?"),
        ("classify", "did you mean 'predict'?"),
        ("find_lr", "did you mean 'find-lr'?"),
        ("xyz", "'lenet-mp --help' lists the commands"),
        ("--model 2", "a command comes first, as in 'lenet-mp train --model'"),
        ("train --learning-rate 3", "did you mean '--lr'?"),
        ("train --learning_rate=3", "did you mean '--lr 3'?"),
        ("train --batch_size 3", "did you mean '--batch-size'?"),
        ("train --batch 3", "did you mean '--batch-size'?"),
        ("train --epoch 3", "did you mean '--epochs'?"),
        ("train -epochs 3", "did you mean '--epochs'?"),
        ("train --schedular cosine", "did you mean '--schedule'?"),
        ("train --label-smothing 0.1", "did you mean '--label-smoothing'?"),
        ("train --wd 1", "did you mean '--weight-decay'?"),
        ("train --schedule cosin", "choose from 'original', 'constant', 'step', 'cosine', 'plateau'"),
        ("train {here}", "did you mean '--data {here}'?"),
        ("train --gpu", "unrecognized arguments: --gpu; see 'lenet-mp train --help'"),
        ("tune --try lr=1,2 --momentun 0.5", "did you mean '--momentum'?"),
        ("tune --try learning-rate=1,2", "did you mean 'lr'?"),
        ("export run --fromat c", "did you mean '--format'?"),
        ("prepare --list train.txt", "did you mean '--lists'?"),
    ],
)
def test_a_mistake_is_answered_with_what_was_meant(arguments, meant, tmp_path, capsys):
    """Mistyped commands and options, and those of other programs, end in code 2 and one line with the right one."""
    here = str(tmp_path)
    assert lenet_mp([word.replace("{here}", here) for word in arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert meant.replace("{here}", here) in error


def test_unknown_options_in_a_file_are_answered_with_what_was_meant(tmp_path, capsys):
    """A TOML file's mistyped key is named, with the right one."""
    (tmp_path / "options.toml").write_text("learning_rate = 3\n")
    assert lenet_mp(["train", "--config", str(tmp_path / "options.toml")]) == 2
    assert "unknown option 'learning_rate'; did you mean 'lr'?" in capsys.readouterr().err


def test_a_folder_of_the_same_name_is_not_taken_for_the_package(tmp_path):
    """Where a checkout called lenet_mp lies in the current folder, Python finds that first, as a namespace."""
    (tmp_path / "lenet_mp" / "lenet_mp").mkdir(parents=True)
    done = programs.train("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: lenet-mp train")


def test_help_is_a_command_too(capsys):
    """'help' lists the commands, 'help COMMAND' explains one."""
    assert lenet_mp(["help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert max(map(len, listed.splitlines())) <= 80
    with pytest.raises(SystemExit):
        lenet_mp(["help", "export"])
    assert "usage: lenet-mp export" in capsys.readouterr().out
