"""Fixtures of several test files. None uses the network."""

import importlib
import logging
import os
import re
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from priors import HEADER, stored_prior
from torch import Tensor

from arcinvert.backbones import build_backbone
from arcinvert.calibration.calibration import Calibration
from arcinvert.calibration.fit import calibrate
from arcinvert.checkpoint import save_checkpoint
from arcinvert.cli import common, run
from arcinvert.faceprior.prior import FacePrior, load_face_prior
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.telemetry import NO_TELEMETRY, switch_off

REPOSITORY = Path(__file__).resolve().parents[1]
FACES_IDENTITIES = 12
TINY_IDENTITIES = 6
TINY_PICTURES = 6

# Variables of a user, a terminal or a cluster that change what is tested; tests set them where they need them.
FOREIGN = re.compile(
    "ARCINVERT_(?!TEST_|AUDIT_|QUICK)|XDG_CACHE_HOME|HF_HUB_OFFLINE|GRADIO_|MYSQL_PWD|NO_COLOR|FORCE_COLOR|TTY_|COLUMNS|"
    "LINES|TERM$|WORLD_SIZE|RANK|LOCAL_RANK|MASTER_|TORCHELASTIC_"
)
for _name in [name for name in os.environ if FOREIGN.match(name) or name in NO_TELEMETRY]:
    del os.environ[_name]
switch_off()

# The networks here are tiny: a second thread gains nothing, and only waits on a busy machine; in started processes too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright, whose event loop must not run beside other tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives the browser")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("needs chromium on the path: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        running = playwright.chromium.launch(executable_path=program, args=flags)
        yield running
        running.close()


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Resets the flushing of denormal numbers, which a command switches on for its process."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Resets the variables of the environment, which the app and gradio set for their process."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def messages() -> Iterator[None]:
    """A command sets handler and level of the package's logger; the next test must not inherit them."""
    package = logging.getLogger("arcinvert")
    package.handlers.clear()
    package.setLevel(logging.NOTSET)
    yield
    package.handlers.clear()
    package.setLevel(logging.NOTSET)


@pytest.fixture
def as_found() -> Iterator[None]:
    """Resets what a run of the command line changes in this process: the signal handler and the common options."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    common.state.quiet = common.state.debug = False


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps calibrations of the tests out of the user's cache."""
    os.environ["ARCINVERT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with faces and foreign networks, outside the repository."""
    named = os.environ.get("ARCINVERT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set ARCINVERT_TEST_DATA to the folder that holds faces/ and models/")
    return folder


@pytest.fixture(scope="session")
def faces_dir(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with aligned crops of the first twelve identities, ``NNNNN/KK.jpg``."""
    archive = test_data / "faces" / "images.tar"
    if not archive.is_file():
        pytest.skip(f"no faces at {archive}")
    folder = tmp_path_factory.mktemp("faces")
    wanted = {f"{number:05d}" for number in range(FACES_IDENTITIES)}
    with tarfile.open(archive) as tar:
        for member in tar:  # in order, so the rest of the archive need not be read
            parts = Path(member.name).parts
            if len(parts) == 2 and parts[0] not in wanted:
                break
            if len(parts) == 2:
                tar.extract(member, folder, filter="data")
    assert {path.name for path in folder.iterdir()} == wanted
    return folder


def draw_identity(identity: int, picture: int) -> np.ndarray:
    """A made-up "person" (112, 112, 3) uint8: a colored disc somewhere on a colored background, with noise."""
    person = np.random.default_rng([identity, 0])
    background, disc = person.uniform(40, 215, (2, 3))
    center = person.uniform(35, 77, 2)
    noise = np.random.default_rng([identity, 1, picture])
    row, column = np.mgrid[:112, :112]
    inside = np.hypot(row - center[0] - noise.uniform(-3, 3), column - center[1] - noise.uniform(-3, 3)) < 25
    image = np.where(inside[..., None], disc, background) + noise.normal(0, 6, (112, 112, 3)) + noise.uniform(-10, 10)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six made-up identities of six images each, ``idN/K.png``; read-only."""
    folder = tmp_path_factory.mktemp("tiny_faces")
    for identity in range(TINY_IDENTITIES):
        (folder / f"id{identity}").mkdir()
        for picture in range(TINY_PICTURES):
            Image.fromarray(draw_identity(identity, picture)).save(folder / f"id{identity}" / f"{picture}.png")
    return folder


TINY_SIZE = 16
TINY_HEADER = {
    "backbone": "iresnet18",
    "backbone_settings": {"width": 0.25, "embedding_size": TINY_SIZE},
    "embedding_size": TINY_SIZE,
    "preprocessing": {"size": [112, 112], "color": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@pytest.fixture(scope="session")
def small_prior(tmp_path_factory: pytest.TempPathFactory) -> FacePrior:
    """A face prior of 64 made-up "faces" of 24 numbers each; see tests/priors.py."""
    path = tmp_path_factory.mktemp("prior") / "face_prior.safetensors"
    save_checkpoint(path, HEADER, stored_prior())
    return load_face_prior(path)


@pytest.fixture(scope="session")
def tiny_checkpoint(small_prior: FacePrior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with the BatchNorm statistics of faces and random weights; read-only."""
    torch.manual_seed(7)
    network = build_backbone(TINY_HEADER["backbone"], **TINY_HEADER["backbone_settings"])
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network(small_prior.render(small_prior.latents(range(32))).clamp(0, 1) * 2 - 1)
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(path, TINY_HEADER, {f"network.{key}": value for key, value in network.state_dict().items()})
    return path


@pytest.fixture(scope="session")
def tiny_recognizer(tiny_checkpoint: Path) -> Recognizer:
    """The tiny checkpoint, loaded."""
    return Recognizer.load(tiny_checkpoint)


@pytest.fixture(scope="session")
def tiny_calibration(tiny_recognizer: Recognizer, small_prior: FacePrior) -> Calibration:
    """The calibration of the tiny recognizer on the small prior."""
    return calibrate(tiny_recognizer, small_prior)


@pytest.fixture(scope="session")
def tiny_inverter(tiny_recognizer: Recognizer, small_prior: FacePrior, tiny_calibration: Calibration) -> Inverter:
    """The tiny recognizer with the small prior."""
    return Inverter(tiny_recognizer, small_prior, tiny_calibration)


@pytest.fixture(scope="session")
def targets(tiny_recognizer: Recognizer, small_prior: FacePrior) -> Tensor:
    """The embeddings of three faces of the small prior, by the tiny recognizer."""
    return tiny_recognizer.embed(small_prior.render(small_prior.latents(range(30, 33))).clamp(0, 1))


@pytest.fixture(scope="session")
def calibrated_checkpoint(tiny_checkpoint: Path, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, calibrated by the command line, once for all workers; read-only."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "calibrated"
    folder.mkdir(exist_ok=True)
    out = folder / "tiny.safetensors"
    words = ["calibrate", "-o", str(out), "--checkpoint", str(tiny_checkpoint), "--faces", str(tiny_faces)]
    with FileLock(folder / "lock"):
        assert out.exists() or run(["-q", *words]) == 0
    return out


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Of ``tests/FOLDER/test_NAME.py`` the script FOLDER/NAME; it and what it imports of them is forgotten after it."""
    folder = REPOSITORY / request.path.parent.name
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module(request.path.stem.removeprefix("test_"))
    for name in [name for name in sys.modules if (folder / f"{name}.py").is_file()]:
        del sys.modules[name]
