"""What ``--json`` of every command prints, as types; ``arcinvert schema COMMAND`` turns them into JSON schemas."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from arcinvert.audit import LeakageReport
from arcinvert.audit.canaries import Found
from arcinvert.audit.diff import Comparison
from arcinvert.audit.membership import Measured
from arcinvert.audit.standards import Answer
from arcinvert.cli.eval.results import (
    AnglesResult,
    Distance,
    IdentificationResult,
    Result,
    RetrievalResult,
    Skipped,
    TemplatesResult,
    Verification,
)
from arcinvert.evaluation.self_test import ContractCheck
from arcinvert.mapping.quality import MapQuality

Degrees = Annotated[float, Field(description="degrees")]
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]


class Attribute(Result):
    """Pose, expression or light of an image."""

    asked: float
    measured: float | None
    missed: bool


class Reconstruction(Result):
    """An image of a manifest."""

    target: int
    variation: int
    file: str
    sha256: str
    cosine: float | None = Field(description="to the target, of the 8-bit image")
    steps: int
    seconds: float
    diverged: bool = False
    attempts: int | None = None
    below_min_cosine: bool | None = None
    robustness: dict[str, float | bool | None] | None = Field(
        None,
        description="cosines after small changes; yaw, pitch, smile, light and brightness in the face prior's units; "
        "age in years, by the auxiliary network",
    )
    attributes: dict[str, Attribute] | None = Field(
        None, description="of those that were asked; yaw, pitch in degrees, age in years"
    )
    history: dict[str, list[float | None]] | None = None


class Manifest(Result):
    """``synth``: the manifest of a job."""

    version: int
    results: list[Reconstruction]
    mean_cosine: float | None
    diverged: int
    below_min_cosine: int
    robustness: dict[str, float | None] | None = None
    diversity: dict[str, Any] | None = None
    sheet: Any
    checkpoint: dict[str, Any]
    face_prior: str
    settings: dict[str, Any]
    run: dict[str, Any] = Field(description="identity of the job: the same run resumes")
    licenses: dict[str, str] = Field(description="weights that had a part -> the license that each states")
    versions: dict[str, str]
    seconds: float
    note: str


class PresetRow(Result):
    """A preset, with every constant and the reason for it."""

    preset: str
    summary: str
    controls: bool = Field(description="whether it takes --pose and --expression")
    constants: dict[str, dict[str, Any]]


class Embedded(Result):
    """``embed``: the photo behind each row of the file."""

    out: str
    rows: list[str]
    skipped: list[Skipped]


class Aligned(Result):
    """``align``: the crops."""

    out: str
    files: list[str]
    skipped: list[Skipped]


class Trained(BaseModel):
    """``train``: the header of the checkpoint."""

    backbone: str
    embedding_size: int
    preprocessing: dict[str, Any]
    training: dict[str, Any] = Field(description="all settings")
    history: list[Any]
    data: dict[str, Any]
    validation: dict[str, Any]


class DryRun(Result):
    """``train --dry-run``: counts, memory and time."""

    images: int
    identities: int
    skipped: int
    held_out: int
    held_out_images: int
    fewest_images: int
    processes: int
    steps_per_epoch: int
    steps: int
    memory: dict[str, int] = Field(description="bytes")
    loss: float
    angle: Degrees
    seconds: float


class Purified(Result):
    """``purify``: counts, and histograms of the angles."""

    images: int
    kept: int
    dropped: int
    threshold_degrees: float
    identities: int
    identities_left: int
    on_dominant: int
    median_angle: Degrees
    histogram: dict[str, Any]
    categories: dict[str, dict[str, Any]] | None = None
    wrong: int | None = None
    wrong_found: float | None = None
    right_dropped: float | None = None


class Calibrated(Result):
    """``calibrate``: the copy with its calibration."""

    out: str
    digest: str
    faces: int


class DrawnFaces(Result):
    """``faces``: the folder, and how many pictures are in it."""

    out: str
    pictures: int


class Migrated(Result):
    """``convert``: how good the map is, and the new store, if one was written."""

    quality: MapQuality
    pictures_skipped: int
    out: str | None = None
    kind: str | None = None
    rows: int | None = None
    empty: int | None = Field(None, description="rows without a usable embedding")


class Planted(Result):
    """``audit canary plant``: the rows to add, or a copy of the store that has them, and their key."""

    out: str | None
    store_copy: str | None = Field(description="copy of the store with the canaries at its end")
    empty_columns: list[str] = Field(description="other columns, which hold nothing in the canaries' rows of the copy")
    key: str
    count: int
    nearest_cosine: Cosine = Field(description="of a canary to a row of the store")


@dataclass(frozen=True)
class Membership(Measured):
    """``audit membership`` with nonmembers; ``run`` has date, version, command and license."""

    run: dict[str, str]
    recognizer: str


@dataclass(frozen=True)
class Compared(Comparison):
    """``audit diff``; ``run`` has date, version and command."""

    run: dict[str, str]


@dataclass(frozen=True)
class Searched(Found):
    """``audit canary find``; ``run`` has date, version and command."""

    run: dict[str, str]


class Converted(Result):
    """``data convert``: what was written, and how many files were left out."""

    out: str
    kind: str
    images: int
    identities: int
    skipped: int


class Imported(Result):
    """``checkpoint import``: the file, with its image contract in units of 0..255."""

    out: str
    digest: str
    contract: dict[str, Any]
    source: dict[str, Any] | None


class Info(Result):
    """``checkpoint info``: a description."""

    format: str
    backbone: str | None
    embedding_size: int
    parameters: int
    contract: dict[str, Any] = Field(description="mean and std in units of 0..255")
    batchnorm: dict[str, int]
    calibration: dict[str, Any] | None
    thresholds: list[dict[str, Any]]
    license: str | None
    digest: str


class Exported(Result):
    """``checkpoint export``: the file, and the least cosine to onnxruntime's embeddings."""

    out: str
    parity: Cosine | None


class Pulled(Result):
    """``checkpoint pull``: where the file is."""

    name: str
    file: str


class Plotted(Result):
    """A ``plot`` command: the file, and what each curve was drawn from."""

    out: str
    curves: list[dict[str, Any]]


class Doctor(Result):
    """``doctor``."""

    arcinvert: str
    python: str
    platform: str
    versions: dict[str, str | None]
    devices: list[dict[str, Any]] = Field(description="the one that --device auto takes first; memory in bytes")
    threads: int
    weights: dict[str, Any]
    cache: dict[str, Any]
    extras: dict[str, dict[str, Any]]
    telemetry: dict[str, str | None]
    telemetry_off: bool
    telemetry_allowed_by: list[str] = Field(description="variables of the environment whose value allows telemetry")
    problems: list[str]


RESULTS: dict[str, Any] = {
    "synth": Manifest,
    "presets": list[PresetRow],
    "embed": Embedded,
    "align": Aligned,
    "audit": LeakageReport,
    "audit diff": Compared,
    "audit canary plant": Planted,
    "audit canary find": Searched,
    "audit membership": Membership | dict[str, list[float]],
    "audit map": list[Answer],
    "convert": Migrated,
    "faces": DrawnFaces,
    "train": Trained | DryRun,
    "purify": Purified,
    "calibrate": Calibrated,
    "data convert": Converted,
    "checkpoint import": Imported,
    "checkpoint info": Info,
    "checkpoint verify": ContractCheck,
    "checkpoint export": Exported,
    "checkpoint pull": Pulled,
    "eval verification": Verification,
    "eval identification": IdentificationResult,
    "eval templates": TemplatesResult,
    "eval retrieval": RetrievalResult,
    "eval angles": AnglesResult,
    "eval distance": Distance,
    "plot roc": Plotted,
    "plot det": Plotted,
    "plot angles": Plotted,
    "plot cmc": Plotted,
    "plot logits": Plotted,
    "plot toy": Plotted,
    "doctor": Doctor,
}
"""Command with ``--json`` -> the type of what it prints; `tests/cli/test_schema.py` holds it complete."""


def adapter(command: str) -> "TypeAdapter[Any]":
    """What validates the JSON of a command, and gives its schema."""
    return TypeAdapter(RESULTS[command])
