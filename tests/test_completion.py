"""Completion in real shells, at a terminal: what a line has become when the tab key was pressed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pexpect
import pytest
from programs import environment

from lenet_mp import completion
from lenet_mp.__main__ import COMMANDS
from lenet_mp.__main__ import main as lenet_mp
from lenet_mp.training.config import SCHEDULES

SHELLS = {
    "bash": ("bash --norc --noprofile -i", "bind 'set enable-bracketed-paste off'; lenet-mp() { :; }"),
    "zsh": ("zsh -f -i", "unset zle_bracketed_paste; autoload -Uz compinit; compinit -D -u; lenet-mp() { :; }"),
    "fish": ("fish --no-config --private -i", "function lenet-mp; end"),
}
"""How each is started, without anybody's settings, and prepared; the command itself is never to run."""
TIME_LIMIT = 30
BEGIN_LINE, NEW_LINE, TAB = "\x01", "\r", "\t"


@pytest.fixture(scope="module", params=SHELLS)
def terminal(request, tmp_path_factory):
    """Return a function that types keys at a shell's prompt and returns what the line has become."""
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param} here")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "photos").mkdir()
    for name in ("mine.toml", "cat.png", "weights.txt"):
        (folder / name).touch()
    command = [sys.executable, "-m", "lenet_mp", "completion", request.param]
    script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (folder / "script").write_text(script)
    start, prepare = SHELLS[request.param]
    variables = environment(TERM="dumb", HOME=folder, XDG_CONFIG_HOME=folder, INPUTRC="/dev/null")
    shell = pexpect.spawn(
        start, cwd=str(folder), env=variables, encoding="utf-8", timeout=TIME_LIMIT, dimensions=(50, 250)
    )
    load = "source script" if request.param == "fish" else 'eval "$(cat script)"'
    shell.sendline(f"{prepare}; {load}; echo re''ady")
    shell.expect("ready")

    def become(keys):
        shell.send(f"{keys}{BEGIN_LINE}echo := {NEW_LINE}")
        shell.expect(r"\n:= ([^\r\n]*)")
        return shell.match[1].rstrip("/ ")

    yield become
    shell.close(force=True)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("lenet-mp tra\t", "lenet-mp train"),
        ("lenet-mp exp\tl\t", "lenet-mp explain"),
        ("lenet-mp find\t--mom\t0.9", "lenet-mp find-lr --momentum 0.9"),
        ("lenet-mp train --epochs 3 --sched\tcos\t", "lenet-mp train --epochs 3 --schedule cosine"),
        ("lenet-mp train --no-nes\t--label\t", "lenet-mp train --no-nesterov --label-smoothing"),
        ("lenet-mp train --model l\t", "lenet-mp train --model lenet5"),
        ("lenet-mp train --class-weights bal\t", "lenet-mp train --class-weights balanced"),
        ("lenet-mp train --model mi\t", "lenet-mp train --model mine.toml"),
        ("lenet-mp train --class-weights wei\t", "lenet-mp train --class-weights weights.txt"),
        ("lenet-mp train --data ph\t", "lenet-mp train --data photos"),
        ("lenet-mp tune --patience 3 --try x --rand\t", "lenet-mp tune --patience 3 --try x --random"),
        ("lenet-mp predict photos ca\t--top\t2", "lenet-mp predict photos cat.png --topk 2"),
        ("lenet-mp export photos --format saf\t", "lenet-mp export photos --format safetensors"),
        ("lenet-mp completion zs\t", "lenet-mp completion zsh"),
        ("lenet-mp doctor --he\t", "lenet-mp doctor --help"),
    ],
)
def test_the_line_is_completed(terminal, keys, line):
    """Commands, options, choices, models and files are completed to what they must be."""
    assert terminal(keys) == line


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_for_every_shell_knows_every_command(shell, capsys):
    """Each shell's script is printed whole, with all commands and the choices of an option."""
    assert lenet_mp(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert all(schedule in script for schedule in SCHEDULES)


def test_unknown_shells_are_refused(capsys):
    """A shell that there is no completion for is one line with those that there are."""
    assert lenet_mp(["completion", "ksh"]) == 2
    assert "choose from 'bash', 'zsh', 'fish', 'tcsh'" in capsys.readouterr().err
