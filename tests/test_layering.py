"""Layers: imports run one way, without circles, and the package needs nothing outside the repository."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import arcinvert

PACKAGE = Path(arcinvert.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import from its own layer and from those below it.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"app"},
    {"migration"},
    {"audit"},
    {"training", "synthesis"},
    {"inverter"},
    {"inversion"},
    {"mapping"},
    {"evaluation"},
    {"calibration"},
    {"faces", "faceprior"},
    {"recognizer", "embeddings", "adapter"},
    {"formats"},
    {"checkpoint"},
    {"backbones"},
    {"distributed", "preprocessing", "quantize", "device", "locking"},
    {"errors", "file_bytes", "progress", "safe_pickle", "telemetry", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Within their layers: what a room may import from the rest of the package, nothing else.
ONLY = {
    "backbones": {"backbones", "errors"},
    "audit.stores": {"audit.stores", "embeddings", "errors", "safe_pickle", "evaluation"},
    "audit.checks": {"audit.checks", "audit.stores", "audit.types", "embeddings", "errors", "evaluation", "progress"},
    "audit.page": {
        "audit.page",
        "audit.report",
        "audit.groups",
        "audit.rates",
        "audit.judges",
        "audit.verdict",
        "audit.significance",
        "audit.thresholds",
        "audit.defenses.sweep",
    }
    | {"errors"},
}
# What a room never imports, although it may by its layer.
NEVER = {"training": {"inversion", "inverter", "synthesis", "faceprior"}, "audit.defenses": {"synthesis"}}


def module_name(path: Path) -> str:
    """The name below ``arcinvert``, such as ``audit.run``; that of a folder for its ``__init__``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


def is_import_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(path: Path, *, types: bool = True) -> set[str]:
    """The modules below ``arcinvert`` that a file imports, wherever in the file; those for types alone on request."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        nodes += [child for child in ast.iter_child_nodes(node) if types or not is_import_for_types(child)]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            full = [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            full = [(alias.name, "") for alias in node.names]
        else:
            continue
        for module, name in full:
            if module.split(".")[0] == "arcinvert":
                below = module.removeprefix("arcinvert").removeprefix(".")
                longer = f"{below}.{name}".removeprefix(".")
                found.add(longer if longer in MODULES else below or "__init__")
    return found


def is_in(name: str, room: str) -> bool:
    return f"{name}.".startswith(f"{room}.")


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(LEVEL)


def test_imports_run_downwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        if name != "__init__"  # it lists the public names, and loads them late
        for other in imported(path)
        if LEVEL[other.split(".")[0]] < LEVEL[name.split(".")[0]]
    ]
    assert upwards == []


@pytest.mark.parametrize("room", ONLY)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    own = [name for name in MODULES if is_in(name, room)]
    assert own
    wrong = [
        f"{name} imports {other}"
        for name in own
        for other in imported(MODULES[name])
        if not any(is_in(other, allowed) for allowed in ONLY[room])
    ]
    assert wrong == []


@pytest.mark.parametrize("room", NEVER)
def test_a_room_never_imports_another(room: str) -> None:
    wrong = [
        f"{name} imports {other}"
        for name in MODULES
        if is_in(name, room)
        for other in imported(MODULES[name])
        if any(is_in(other, forbidden) for forbidden in NEVER[room])
    ]
    assert wrong == []


def test_modules_do_not_import_in_a_circle() -> None:
    graph = {name: imported(path, types=False) for name, path in MODULES.items() if name != "__init__"}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_no_file_names_a_place_outside_the_repository() -> None:
    place = re.compile(r"\.\./|/work\b|\bshared/|/home/|/tmp/")
    assert [name for name, path in MODULES.items() if place.search(path.read_text())] == []


def test_hooks_and_pickles_have_one_place() -> None:
    for path in FILES:
        text = path.read_text()
        if path.name != "recognizer.py":
            assert "register_forward" not in text, path
        assert not re.search(r"allow_pickle\s*=\s*True|weights_only\s*=\s*False|^import pickle", text, re.M), path
