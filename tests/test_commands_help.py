"""What every command about results answers to ``--help``, and to being called without its arguments."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

COMMANDS = ("summary", "benchmark", "evaluate", "predict", "features", "export", "report", "explain", "find-lr", "tune")

ARGUMENTS = {
    "summary": [],
    "benchmark": [],
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
    """Help is at most 25 lines of 80 columns, with an example that begins with the command."""
    monkeypatch.setenv("COLUMNS", "80")
    module = importlib.import_module(module_of(command))
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80
    examples = "\n".join(lines).partition("\nexample")[2]
    assert f"  lenet-mp {command} " in examples or f"| lenet-mp {command} " in examples


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
    """Neither the C core nor matplotlib is loaded to answer a question about options."""
    code = (
        "import sys, importlib\n"
        f"importlib.import_module('{module_of(command)}').build_parser()\n"
        "print(sorted({'matplotlib', 'lenet_mp._kernels', 'mpi4py', 'jinja2', 'onnx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"
