"""The tests of the C core against a build of it, each build in a forked child: what is heavy is imported only once.

A child loads the extension module by its path, runs the tests one after the other and stops at the first failure. A
crash, or a run that takes ten times as long as usual, is a failure too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = (
    "test_kernels_activation.py", "test_kernels_conv.py", "test_kernels_pool.py", "test_kernels_memory.py",
    "test_targets.py", "test_descent.py", "test_engine.py", "test_engine_augment.py", "test_engine_guards.py",
)  # fmt: skip
"""Files of the tests of what is computed."""
FILES = (*QUICK, "test_benchmark.py", "test_crashes.py")
"""All that work the C core."""
LEAST_SECONDS = 20
MEMORY = 6 << 30  # of addresses: a plan of a huge size is refused, not tried


class Outcome(NamedTuple):
    """How a session ended.

    ``failed`` is the first test that failed, or how the child died; empty where all passed. ``seconds`` are those of
    each test that ran.
    """

    failed: str
    seconds: dict[str, float]


class Listener:
    """A pytest plugin: orders the tests, leaves some out, and writes down how each ends."""

    def __init__(self, out: Path, order: Callable[[str], Any], left_out: frozenset[str], *, stop: bool) -> None:
        self.out, self.order, self.left_out, self.stop = out, order, left_out, stop
        self.notes: dict[str, Any] = {"failed": [], "seconds": {}}

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Let no example depend on chance, and waste no time on making a failure simple."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put first what is most likely to fail soon."""
        items[:] = sorted((i for i in items if i.nodeid not in self.left_out), key=lambda item: self.order(item.nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what is needed if the child dies in the next test."""
        seconds = self.notes["seconds"]
        seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.notes["failed"].append(report.nodeid)
        if report.when == "teardown" or report.failed:
            self.out.write_text(json.dumps(self.notes), "utf-8")


def session(
    module: Path,
    isa: str,
    checkout: Path,
    out: Path,
    *,
    files: tuple[str, ...] = FILES,
    order: Callable[[str], Any] = lambda _: 0,
    left_out: frozenset[str] = frozenset(),
    usual: float = 60.0,
    stop: bool = True,
) -> Outcome:
    """Run the tests of ``checkout`` on the built ``module`` in a child of its own.

    Parameters
    ----------
    module, isa
        The extension module, and the name of its instruction set.
    out : Path
        A file to write to.
    order : callable
        The lower for a test's id, the earlier it runs.
    left_out : frozenset of str
        Ids of tests that are not run.
    usual : float
        Seconds that all tests take, of a processor.
    """
    out.write_text(json.dumps({"failed": [], "seconds": {}}), "utf-8")
    child = os.fork()
    if not child:
        _in_child(module, isa, checkout, [*files], Listener(out, order, left_out, stop=stop), usual)
    _, status = os.waitpid(child, 0)
    notes = json.loads(out.read_text("utf-8"))
    if notes["failed"]:
        return Outcome(notes["failed"][0] if stop else "\n".join(notes["failed"]), notes["seconds"])
    if os.WIFSIGNALED(status):
        return Outcome(f"a child killed by {signal.Signals(os.WTERMSIG(status)).name}", notes["seconds"])
    code = os.WEXITSTATUS(status)
    return Outcome(f"a child with exit code {code}" if code else "", notes["seconds"])


def _in_child(module: Path, isa: str, checkout: Path, files: list[str], listener: Listener, usual: float) -> None:
    """Never returns."""
    code = 99
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        seconds = int(max(LEAST_SECONDS, 3 * usual))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10 * seconds)
        _load(module, isa, checkout)
        os.chdir(checkout / "tests")
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-o", "filterwarnings="]
        code = int(pytest.main([*options, *(["-x"] if listener.stop else []), *files], plugins=[listener]))
    finally:
        os._exit(code)


def _load(module: Path, isa: str, checkout: Path) -> None:
    """Make ``lenet_mp`` the package of ``checkout`` with ``module`` for its core, here and in the children."""
    for name in [name for name in sys.modules if name.split(".")[0] == "lenet_mp"]:
        del sys.modules[name]
    sys.path[:0] = [str(checkout), str(checkout / "tests")]
    os.environ |= {"PYTHONPATH": str(checkout), "LENET_MP_ISA": isa, "OMP_NUM_THREADS": "2"}
    target = checkout / "lenet_mp" / "_kernels.abi3.so"
    target.unlink(missing_ok=True)
    target.symlink_to(module)
    from lenet_mp import _native  # noqa: PLC0415 - only now is it the one that is meant

    _native.available = lambda: (isa,)
