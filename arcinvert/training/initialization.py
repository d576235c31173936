"""The start of a run from the weights of a finished recognizer."""

import torch
from torch import nn
from torch.nn.functional import normalize

from arcinvert.calibration.regression import Accumulators
from arcinvert.checkpoint import build_network, load_strictly
from arcinvert.formats import open_checkpoint
from arcinvert.recognizer import Recognizer
from arcinvert.training.data.faces import FaceDataset
from arcinvert.training.distillation import Distillation, Teacher, image_batches
from arcinvert.training.heads import MarginHead

PROJECTION_RIDGE = 1.0
"""Of the first projection head, in units of one face: less fits the images, but not their augmented views."""


def initialize_from(
    path: str,
    network: nn.Module,
    head: MarginHead,
    distillation: Distillation | None,
    faces: FaceDataset,
    device: torch.device,
) -> None:
    """Initialize network, class centers and projection head from a checkpoint.

    The mean embedding of each class is added to its center; the projection head, if there is one, becomes the ridge
    regression from the checkpoint's embeddings to the teacher's. Every image is embedded once.

    Raises:
        CheckpointError: a file that is not a recognizer, or one of another network.
    """
    stored = open_checkpoint(path)
    load_strictly(network, build_network(stored, path).state_dict(), repr(path))
    first = Teacher(Recognizer.from_checkpoint(stored, path).to(device))
    projection = None if distillation is None else distillation.projection_head
    total = torch.zeros(len(faces.identities), first.embedding_size, device=device)
    sums: Accumulators | None = None
    for images, labels in image_batches(faces, device):
        embeddings = first.embed(images)
        total.index_add_(0, labels, embeddings)
        if distillation is not None and projection is not None:
            part = Accumulators.of(embeddings.cpu(), distillation.teacher.embed(images).cpu())
            sums = part if sums is None else sums + part
    own = normalize(total)[head.part.start : head.part.stop]
    with torch.no_grad():
        head.centers.add_(own if head.centers.ndim == 2 else own[:, None])
        if projection is not None and sums is not None:
            fit = sums.solve(PROJECTION_RIDGE)
            projection.weight.copy_(fit[:-1].T)
            projection.bias.copy_(fit[-1])
