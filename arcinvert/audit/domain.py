"""The faces of the audited domain, and the thresholds of the judges on them."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from arcinvert.audit.impostors import ImpostorScores
from arcinvert.audit.judges import Judge, ThresholdFaces, embed_faces
from arcinvert.audit.thresholds import LEAST_PEOPLE, Basis, Fixed, fix, given, public_thresholds
from arcinvert.progress import Progress, silent


def domain_faces(crops: ThresholdFaces | None, photos: ThresholdFaces | None) -> ThresholdFaces | None:
    """Crops of other people and the enrolled photos together, each image once; None without either.

    Folders of one name show one person.
    """
    parts = [part for part in (photos, crops) if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    images = torch.cat([part.images for part in parts])
    names = np.concatenate([_names(part) for part in parts])
    contents = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    first = np.sort(np.unique(contents, return_index=True)[1])
    labels = np.unique(names, return_inverse=True)[1][first]
    digest = hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest()
    source = " and ".join(part.source for part in parts)
    return ThresholdFaces(images[torch.from_numpy(first)], labels, source, digest, folder=True)


def _names(faces: ThresholdFaces) -> NDArray[np.str_]:
    return np.array([faces.people[label] for label in faces.labels])


def fixed_on(
    judge: Judge,
    domain: ThresholdFaces | None,
    faces: ThresholdFaces,
    own: Mapping[str, float],
    *,
    templates: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None,
    progress: Progress = silent,
) -> Judge:
    """A judge with the thresholds of the audited domain, or the next best; ``judge`` has those of synthetic faces.

    Args:
        judge: whose thresholds rest on synthetic faces, with its embeddings of them.
        domain: photos and crops of the audited domain; None without any.
        faces: that the judge's ``own`` embeddings are to show: crops of other people, else the synthetic faces.
        own: name of a judge -> the system's own threshold, which is added.
        templates: embeddings (M, D) by this judge, and the person of each; they are used if they show more people.
        progress: called with (done, all, text).
    """
    text = f"thresholds of {judge.name}"
    found: list[tuple[ImpostorScores, Basis, str]] = []
    if templates is not None and len(np.unique(templates[1])) >= LEAST_PEOPLE:
        scores = ImpostorScores.of(*templates)
        found.append((scores, "templates", f"{len(templates[0])} templates of {scores.people} people of the store"))
    if domain is not None and len(np.unique(domain.labels)) >= LEAST_PEOPLE:
        rows = embed_faces(judge.recognizer, domain.images, text, progress).numpy()
        found.append((ImpostorScores.of(rows, domain.labels), "photos", domain.source))
    found.sort(key=lambda one: (one[0].people, one[0].pairs), reverse=True)
    public = public_thresholds(judge.recognizer.digest)
    fixed = fix(*found[0]) if found else public or Fixed(judge.thresholds, judge.source)
    thresholds = fixed.thresholds
    if judge.name in own:
        alone = np.arange(len(judge.own))
        scores, basis, _ = found[0] if found else (ImpostorScores.of(judge.own.numpy(), alone), "synthetic faces", "")
        thresholds += (given(own[judge.name], scores, basis),)
    embedded = embed_faces(judge.recognizer, faces.images, text, progress) if faces.folder else judge.own
    return replace(judge, thresholds=thresholds, own=embedded, source=fixed.source, synthetic=judge.thresholds)
