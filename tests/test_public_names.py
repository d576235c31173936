"""Public names: those of ``arcinvert.__all__``, and nothing else is used by the examples and the README."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import arcinvert

ROOT = Path(__file__).parents[1]
PACKAGE = Path(arcinvert.__file__).parent


def sources() -> dict[str, str]:
    """Programs that users read: the examples and the Python blocks of the pages, by name."""
    found = {path.name: path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
        found |= {f"{path.name}, block {i}": block for i, block in enumerate(blocks, 1)}
    return found


@pytest.mark.parametrize("name", sources())
def test_programs_that_users_read_import_public_names_only(name: str) -> None:
    for node in ast.walk(ast.parse(sources()[name])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "arcinvert":
            assert node.module == "arcinvert", f"imports from {node.module}"
            assert {alias.name for alias in node.names} <= set(arcinvert.__all__)
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("arcinvert.")]


def test_all_is_what_can_be_imported() -> None:
    assert sorted(arcinvert.__all__) == list(dict.fromkeys(sorted(arcinvert.__all__)))
    assert set(arcinvert._HOMES) | {"ArcInvertError", "__version__"} == set(arcinvert.__all__)
    for name in arcinvert.__all__:
        assert getattr(arcinvert, name) is not None
    assert callable(arcinvert.invert)
    assert arcinvert.metrics.__name__ == "arcinvert.evaluation.metrics"
    assert issubclass(arcinvert.ArcInvertError, Exception)


def test_every_public_name_is_documented() -> None:
    pages = "".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    homes = {f"{home}.{name}" if name in arcinvert._MODULES else home for name, home in arcinvert._HOMES.items()}
    assert [home for home in homes if f"::: {home}\n" not in pages] == []


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
    heavy = "torch numpy PIL safetensors onnxruntime"
    code = f"import sys, {module}; print(*(m for m in '{heavy}'.split() if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == ""


def test_the_version_is_that_of_the_distribution() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", arcinvert.__version__)
