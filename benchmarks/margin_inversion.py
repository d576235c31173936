"""The inversion part of margin_table.py: targets, judges and controls; a module, not a command."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inversion import FMRS, Judge, judged
from loss_table import HELD_OUT
from torch import Tensor

from arcinvert.calibration.fit import calibrate
from arcinvert.checkpoint import file_digest
from arcinvert.errors import InputError, UsageError
from arcinvert.evaluation.generation.distances import cosine_features, frechet_distance
from arcinvert.evaluation.metrics import score_pairs, threshold_at_fmr
from arcinvert.faceprior.prior import FacePrior, default_face_prior
from arcinvert.inversion.invert import invert, to_bytes
from arcinvert.inversion.presets import preset_of
from arcinvert.inversion.reconstruct import generator_for
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.sheets import contact_sheet, write_png
from arcinvert.training.data.faces import identity_folders, load_faces, split_identities

REFERENCES, BATCH, SHOWN = 60, 8, 5


@dataclass(frozen=True, eq=False)
class Bench:
    """The targets and judges of every network.

    Attributes:
        prior: the face prior.
        shown: (M, 112, 112, 3) uint8 training images, for calibration.
        enrolled, second: (N, 112, 112, 3) uint8, first and second image of each target.
        judges: with their thresholds.
        templates, others, real: judge -> (N, D) embeddings of the enrolled images, those of each target's other images,
            and features of the latter without the second images.
        asked: settings with which a stored result must have been made.
    """

    prior: FacePrior
    shown: Tensor
    enrolled: Tensor
    second: Tensor
    judges: list[Judge]
    templates: dict[str, np.ndarray]
    others: dict[str, list[np.ndarray]]
    real: dict[str, np.ndarray]
    asked: dict[str, Any]

    @classmethod
    def open(cls, data: Path, judges: list[Path], targets: int) -> "Bench":
        """Read the images and embed them with the judges."""
        names, held_out = split_identities(identity_folders(data), HELD_OUT)
        if not 2 <= targets <= len(held_out):
            raise UsageError(f"expected 2 to {len(held_out)} targets, got {targets}")
        before = [*names, *held_out[:-targets]]
        faces, impostors = load_faces(data, held_out[-targets:]), load_faces(data, before[-REFERENCES:])
        counts = faces.labels.bincount()
        if int(counts.min()) < 3:
            raise InputError("expected at least three pictures of every target")
        first = counts.cumsum(0) - counts
        templates, others, real, opened = {}, {}, {}, []
        for path in judges:
            judge = Judge(path)
            impostor = score_pairs(judge(impostors.images), impostors.labels.numpy()).impostor
            for fmr in FMRS:
                threshold = threshold_at_fmr(fmr, impostor=impostor)
                if threshold is None:
                    raise InputError(f"too few impostor pairs ({len(impostor)}) for a false match rate of {fmr:g}")
                judge.thresholds[fmr] = threshold
            rows = judge(faces.images)
            opened.append(judge)
            templates[judge.name] = rows[first]
            others[judge.name] = [part[1:] for part in np.split(rows, first[1:].tolist())]
            real[judge.name] = cosine_features(np.concatenate([part[1:] for part in others[judge.name]]))
        digests = {path.stem: file_digest(path) for path in judges}
        asked = {"targets": targets, "pictures": faces.digest, "references": impostors.digest, "judges": digests}
        shown = load_faces(data, names).images
        pictures = faces.images[first], faces.images[first + 1]
        return cls(default_face_prior(), shown, *pictures, opened, templates, others, real, asked)

    def judged(self, images: Tensor, skipped: int = 0) -> dict[str, Any]:
        """Scores of each judge for one image (112, 112, 3) uint8 of every target.

        ``skipped`` of a target's other images are not compared, because they are shown themselves.
        """
        found = {}
        for judge in self.judges:
            name, rows = judge.name, judge(images)
            others = [part[skipped:] for part in self.others[name]]
            found[name] = judged(judge, images, self.templates[name], others) | {
                "cosines": (rows * self.templates[name]).sum(1).tolist(),
                "frechet": frechet_distance(cosine_features(rows), self.real[name]),
            }
        return found

    def inverted(self, checkpoint: Path, strip: Path) -> dict[str, Any]:
        """Calibrate a network, invert the embeddings of the enrolled images, and judge the result."""
        recognizer = Recognizer.load(checkpoint)
        started = time.perf_counter()
        inverter = Inverter(recognizer, self.prior, calibrate(recognizer, self.prior, images=self.shown))
        calibrated = time.perf_counter()
        target = recognizer.embed(self.enrolled.permute(0, 3, 1, 2))
        done = []
        for start in range(0, len(target), BATCH):
            rows = target[start : start + BATCH]
            generators = [generator_for(0, start + i, 0) for i in range(len(rows))]
            plain = torch.zeros(len(rows), dtype=torch.int64)
            # The auxiliary recognizer would help every network alike.
            preset = dataclasses.replace(preset_of("fast"), auxiliary_every=0)
            recipe = preset.recipe(inverter.attack(rows, plain, generators))
            done.append(invert(recipe, target=rows, generators=generators))
        images = torch.cat([part.images for part in done])
        seconds = (calibrated - started, (time.perf_counter() - calibrated) / len(target))
        write_png(strip, contact_sheet([*images[:SHOWN]], min(SHOWN, len(images))))
        return {
            "asked": self.asked | {"checkpoint": recognizer.digest},
            "own_cosine": float(torch.cat([part.cosine for part in done]).mean()),
            "diverged": int(torch.cat([part.diverged for part in done]).sum()),
            "calibration_seconds": seconds[0],
            "seconds_per_face": seconds[1],
            "judges": self.judged(images),
        }

    def controls(self, strip: Path) -> dict[str, Any]:
        """Scores of the judges for images that come from no inversion, and their thresholds."""
        mean = to_bytes(self.prior.render(torch.zeros(1, self.prior.size)).clamp(0, 1))
        write_png(strip, contact_sheet([*self.enrolled[:SHOWN]], min(SHOWN, len(self.enrolled))))
        return {
            "asked": self.asked,
            "thresholds": {judge.name: {f"{fmr:g}": judge.thresholds[fmr] for fmr in FMRS} for judge in self.judges},
            "controls": {
                "mean face": {"judges": self.judged(mean.expand(len(self.enrolled), -1, -1, -1))},
                "a real second photo": {"judges": self.judged(self.second, skipped=1)},
            },
        }
