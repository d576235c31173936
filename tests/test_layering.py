"""Imports run one way, and the package needs nothing that lies beside the repository."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import arcinvert

PACKAGE = Path(arcinvert.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import from its own layer and from those below it (higher numbers).
LAYERS = [
    {"__main__"},
    {"cli"},
    {"app"},
    {"audit"},
    {"training", "synthesis"},
    {"inversion"},
    {"evaluation"},
    {"calibration"},
    {"faces", "faceprior"},
    {"recognizer", "embeddings"},
    {"formats"},
    {"checkpoint"},
    {"backbones"},
    {"distributed", "preprocessing", "quantize"},
    {"errors", "progress", "safe_pickle", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_of(path: Path) -> str:
    """The first name below ``arcinvert``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The first names below ``arcinvert`` that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        else:
            continue
        for name in full:
            parts = name.split(".")
            if parts[0] == "arcinvert":
                is_module = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
                found.add(parts[1] if is_module else "__init__")
    return found


def test_every_module_has_a_layer() -> None:
    assert {module_of(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    mine = module_of(path)
    if path == PACKAGE / "__init__.py":
        return  # it names the public surface, and loads it late
    upwards = {name for name in imported(path) if LEVEL[name] < LEVEL[mine]}
    assert not upwards


def test_inversion_and_training_do_not_know_each_other() -> None:
    for path in FILES:
        if module_of(path) == "inversion":
            assert "training" not in imported(path), path
        if module_of(path) == "training":
            assert not {"inversion", "synthesis", "faceprior"} & imported(path), path


def test_nothing_but_the_entry_point_imports_the_command_line() -> None:
    users = {module_of(path) for path in FILES if "cli" in imported(path)}
    assert users <= {"cli", "__main__"}


def test_networks_know_nothing_of_the_rest() -> None:
    for path in FILES:
        if module_of(path) == "backbones":
            assert imported(path) <= {"backbones", "errors"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_names_a_place_outside_the_repository(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\.\./|/work\b|\bshared/|/home/|/tmp/", text)


def test_hooks_and_pickles_have_one_place() -> None:
    for path in FILES:
        text = path.read_text()
        if path.name != "recognizer.py":
            assert "register_forward" not in text, path
        assert not re.search(r"allow_pickle\s*=\s*True|weights_only\s*=\s*False|^import pickle", text, re.M), path


# --- the public surface


def test_all_is_what_can_be_imported() -> None:
    assert sorted(arcinvert.__all__) == list(dict.fromkeys(sorted(arcinvert.__all__)))
    assert set(arcinvert._HOMES) | {"ArcInvertError", "__version__"} == set(arcinvert.__all__)
    for name in arcinvert.__all__:
        assert getattr(arcinvert, name) is not None
    assert callable(arcinvert.invert)
    assert arcinvert.metrics.__name__ == "arcinvert.evaluation.metrics"
    assert issubclass(arcinvert.ArcInvertError, Exception)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        arcinvert.nothing  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(arcinvert._HOMES)


@pytest.mark.parametrize("module", ["arcinvert", "arcinvert.cli", "arcinvert.errors"])
def test_importing_it_does_not_import_torch(module: str) -> None:
    heavy = "torch numpy PIL safetensors kornia onnxruntime"
    code = f"import sys, {module}; print(*(m for m in '{heavy}'.split() if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", arcinvert.__version__)
