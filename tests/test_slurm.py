"""The example job for Slurm, with stand-ins for Slurm's commands."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from lenet_mp.train import build_parser

SCRIPT = Path(__file__).parents[1] / "scripts" / "slurm.sh"


def test_the_script_is_valid_and_asks_for_what_it_explains():
    """Bash can parse it, and the lines that make a job end in time and go on are there."""
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    lines = SCRIPT.read_text().splitlines()
    assert {"#SBATCH --signal=USR1@90", "#SBATCH --requeue", "#SBATCH --open-mode=append"} <= set(lines)


def submit(folder, code):
    """Run the script as Slurm would, with an srun that ends with ``code``; return it and what was called."""
    programs = {"srun": f"echo srun $OMP_NUM_THREADS $* >>calls; exit {code}", "scontrol": "echo scontrol $* >>calls"}
    for name, text in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text("")
    slurm = {"SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "SLURM_NTASKS": "12"}
    environment = os.environ | slurm | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", SCRIPT, "--epochs", "3"], cwd=folder, env=environment, check=False)
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (3, False), (143, True)])
def test_a_job_queues_itself_again_only_when_its_time_was_up(tmp_path, code, requeued):
    """Exit code 143 (stopped, checkpoint written) requeues the job; success and errors do not; the code is kept."""
    returned, calls = submit(tmp_path, code)
    assert returned == code
    assert calls[1:] == (["scontrol requeue 7"] if requeued else [])


def test_the_job_passes_options_that_exist(tmp_path):
    """Threads are those of the task, streams do not depend on the ranks, and train's own parser takes every option."""
    _, (call,) = submit(tmp_path, 0)
    words = shlex.split(call)
    assert words[:3] == ["srun", "4", "--cpus-per-task=4"]
    options = build_parser().parse_args(words[words.index("lenet_mp.train") + 1 :])
    assert (options.resume, str(options.out), options.streams, options.epochs) == ("auto", "runs/job-7", 32, 3)
