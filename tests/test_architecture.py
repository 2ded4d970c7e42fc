"""Holds the import rules of the house: rooms import leftwards, and one folder knows Ray."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "platformops"
PROJECT = PACKAGE.parent
GROUND = {"errors", "clock", "machine", "home", "store"}
ROOMS = [
    "spec", "apps", "frameworks", "pipeline", "registry", "delivery", "observation", "health", "scheduler", "security",
]  # fmt: skip
CRANKS = {"controller", "fleet", "replica_health", "retraining"}
RIGHT = {*CRANKS, "gateway", "on_ray", "keeper", "cli", "console"}
FORBIDDEN_NAMES = {"ray.py", "utils.py", "helpers.py", "common.py", "core.py", "base.py", "manager.py"}
EDGE_ONLY = {"time", "random"}


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def ours(name: str) -> list[str]:
    parts = name.split(".")
    return parts[1:] if parts[0] == "platformops" and len(parts) > 1 else []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_place_allows(path):
    room, problems = room_of(path), []
    for name in imports_of(path):
        if name.split(".")[0] == "ray" and room != "on_ray":
            problems.append(f"{name}: only on_ray/ imports ray")
        target = ours(name)
        if not target or target[0] == room:
            continue
        if room in GROUND and target[0] not in GROUND:
            problems.append(f"{name}: ground imports only ground")
        if room in ROOMS:
            if target[0] in GROUND or target[0] in ("spec", "security"):
                continue
            if target[0] in RIGHT or ROOMS.index(target[0]) > ROOMS.index(room):
                problems.append(f"{name}: {room} imports rightwards")
            elif target[0] == "apps" and room == "frameworks":
                continue
            elif len(target) > 1 and target[1] != "records":
                problems.append(f"{name}: of another room only `records` may be imported")
        if room in CRANKS and target[0] in RIGHT:
            problems.append(f"{name}: a crank knows rooms only")
        if room == "gateway" and target[0] in (*CRANKS, "on_ray", "cli", "keeper", "console"):
            problems.append(f"{name}: the gateway is given its call port")
        if target[0] == "on_ray" and room not in ("cli", "console"):
            problems.append(f"{name}: only cli, jobs, serve, console and tests import on_ray")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_read_no_clock_and_no_environment(path):
    room = room_of(path)
    if room not in ROOMS and room not in CRANKS:
        return
    text = path.read_text(encoding="utf-8")
    assert not EDGE_ONLY & {n.split(".")[0] for n in imports_of(path)}, "time and luck are arguments"
    assert "os.environ" not in text, "the environment is read in cli/ and on_ray/"
    assert "os.getenv" not in text, "the environment is read in cli/ and on_ray/"


def test_no_grab_bags():
    assert not [str(p) for p in modules() if p.name in FORBIDDEN_NAMES]


UNSAFE = {"pickle", "dill", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_unpickled_or_evaluated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not UNSAFE & {n.split(".")[0] for n in imports_of(path)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "yaml.load", "torch.jit.load"), f"{path}:{node.lineno}: {called}"
        if called in ("torch.load", "np.load", "numpy.load"):
            unsafe = {"weights_only": "False", "allow_pickle": "True"}
            for keyword in node.keywords:
                assert ast.unparse(keyword.value) != unsafe.get(keyword.arg or ""), f"{path}:{node.lineno}: {called}"
            if called == "torch.load":
                assert any(k.arg == "weights_only" for k in node.keywords), f"{path}:{node.lineno}: weights_only"
