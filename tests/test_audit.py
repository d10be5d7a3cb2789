"""What no module of the package may do, found in its sources: nothing that came as a file is ever run."""

import ast
from pathlib import Path

import pytest

import lenet_mp

PACKAGE = Path(lenet_mp.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "code", "codeop", "runpy"}
"""Modules that make objects or programs of bytes."""
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {("os", "system"), ("os", "popen"), ("numpy", "loadtxt"), ("np", "loadtxt"), ("np", "fromfile")}
UNPACKING = {"extract", "extractall"}
SHELLS = {"getoutput", "getstatusoutput"}
OWN_PROCESSES = {"data/decode_pool.py", "data/decode_worker.py"}
"""They talk to each other through a pipe that nobody else can open, in multiprocessing's own language."""


def nodes(path):
    """Return all nodes of a module's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path):
    """Return the names of all modules that a module imports, wherever it does."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def calls(path):
    """Return (object, function, call) of all calls; no object where a plain name is called."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                found.append(("", function.id, node))
            elif isinstance(function, ast.Attribute):
                owner = function.value.id if isinstance(function.value, ast.Name) else "?"
                found.append((owner, function.attr, node))
    return found


@pytest.fixture(params=SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def source(request):
    """Return each module in turn."""
    return request.param


def test_nothing_is_unpickled_or_run(source):
    """No pickle, no YAML, no eval or exec, no shell, no archive unpacked onto the disk."""
    assert not {name for name in imported(source) if name.partition(".")[0] in MODULES}
    for owner, function, call in calls(source):
        place = f"{source.name}:{call.lineno}"
        assert not (not owner and function in CALLS), place
        assert (owner, function) not in METHODS, place
        assert function not in UNPACKING | SHELLS, place
        assert not any(k.arg == "shell" for k in call.keywords), place


def test_numpy_loads_without_pickle(source):
    """Whatever NumPy reads, it is told not to unpickle."""
    for owner, function, call in calls(source):
        if owner in {"np", "numpy"} and function in {"load", "read_array"}:
            allowed = {k.arg: k.value for k in call.keywords}.get("allow_pickle")
            assert isinstance(allowed, ast.Constant), f"{source.name}:{call.lineno}"
            assert allowed.value is False, f"{source.name}:{call.lineno}"


def test_pipes_between_processes_are_known(source):
    """Objects travel through pipes of multiprocessing, which unpickles them, between own processes alone."""
    uses = any(name.partition(".")[0] in {"multiprocessing", "concurrent.futures.process"} for name in imported(source))
    assert not uses or str(source.relative_to(PACKAGE)) in OWN_PROCESSES


def test_texts_are_parsed_through_one_door(source):
    """JSON and TOML are parsed where their size is bounded; the others parse what this program wrote a moment ago."""
    own = {"documents.py", "scalability/scale_runs.py", "diagnosing/diagnosis_engine.py"}
    if str(source.relative_to(PACKAGE)) in own:
        return
    for owner, function, call in calls(source):
        assert not (owner in {"json", "tomllib"} and function in {"load", "loads"}), f"{source.name}:{call.lineno}"


def test_the_audit_finds_what_it_looks_for(tmp_path):
    """The searches see imports inside functions, aliases of calls, and keywords."""
    path = tmp_path / "bad.py"
    lines = ("def f():", "import pickle", "from yaml import load", "np.load(x, allow_pickle=True)", "eval('1')")
    path.write_text("\n    ".join(lines))
    assert {"pickle", "yaml"} <= {name.partition(".")[0] for name in imported(path)}
    assert [(owner, name) for owner, name, _ in calls(path)] == [("np", "load"), ("", "eval")]
    for audit in (test_nothing_is_unpickled_or_run, test_numpy_loads_without_pickle):
        with pytest.raises(AssertionError):
            audit(path)
