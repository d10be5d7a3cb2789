"""Several hosts: network namespaces joined by slow cables. Skipped where the machine does not allow them."""

import subprocess
from pathlib import Path

import programs
import pytest
from programs import needs_mpi

SCRIPTS = Path(__file__).parents[1] / "scripts"


def reason_to_skip():
    """Return what the script itself says about this machine."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import namespaces; print(namespaces.why_not())"
    return programs.run("-c", code).stdout.strip()


def namespaces():
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.startswith("lmp")]


@needs_mpi
def test_ranks_on_several_hosts(tmp_path):
    """Ranks on two hosts give the bits of one process; a cut cable ends the job with nothing left, and it resumes."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    before = namespaces()
    done = programs.run(SCRIPTS / "hosts.py", "--ranks", 3, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = {line[:9].strip(): line[10:].strip() for line in done.stdout.splitlines()}
    assert lines["hosts"] == "3 ranks on 2 hosts"
    assert lines["allreduce"].startswith("8 bytes in ")
    assert lines["same bits"].endswith("as in one process")
    assert "with 75" in lines["cut"]
    assert lines["cut"].endswith("as if never cut")
    assert namespaces() == before
