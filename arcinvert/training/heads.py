"""The margin head: class centers and the loss per image, in one process or shared by several.

cosine -> margin on the target -> scale -> cross-entropy. The centers are templates of the
training identities, so a released checkpoint leaves the head out unless asked.

Where several processes train (:mod:`arcinvert.distributed`), each holds a contiguous range of the classes and passes
the features of its own images; the head gathers them, every process compares all images with its own classes, and the
softmax is assembled from the parts of all processes under the global maximum. Loss and gradients equal those of one
process, which runs the same code.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from arcinvert.distributed import SINGLE_PROCESS, Processes
from arcinvert.errors import UsageError
from arcinvert.training.class_centers import inner_products, lookup
from arcinvert.training.collectives import all_max, all_sum, gather_rows, own_part, sizes
from arcinvert.training.losses import LOSSES, class_products, moved_centers, own_center
from arcinvert.training.margins import AdaFace, Margin, angle, check_past_pi, combined_margin

DRAWN_AT_ONCE = 4096
"""Centers that are drawn at once when a head is initialized."""


class HeadOutput(NamedTuple):
    """The output of a head.

    Attributes:
        loss: (B,), natural logarithm.
        cosine: (B,), to the own class center (of several the nearest), without margin and gradient.
    """

    loss: Tensor
    cosine: Tensor


class MarginHead(nn.Module):
    """Class centers on the unit sphere, and the margin loss of an embedding to them.

    The state holds this process's rows of ``centers``, (classes, D) or (classes, K, D), and if the settings need them
    of ``bias`` (classes,), ``moving_centers`` (classes, D) of the center loss and ``hits`` (classes, K), the number of
    images nearest to each sub-center; and ``norm_mean`` and ``norm_deviation`` of AdaFace. Moving centers, hits and
    the statistics of AdaFace change in training mode only.

    Args:
        embedding_size: D.
        classes: number of identities.
        margin: changes the target cosine. None is plain softmax: inner products of features and centers, not
            normalized, plus a bias (Deng et al. 2019, Eq. 1); ``scale`` and ``past_pi`` are then not used.
        scale: s, the factor on every cosine (64 in the paper).
        subcenters: K centers per class, the nearest counts (Deng et al. 2020; K = 3 there).
        past_pi: see :func:`~arcinvert.training.margins.combined_margin`.
        extra_losses: weights of further losses, by their names in :data:`~arcinvert.training.losses.LOSSES`;
            those of weight 0 are left out.
        sampling: in training, the share of the classes that a batch is compared with: its own classes, and
            others drawn at random (An et al. 2021, *Partial FC*). The gradient is a sparse tensor without the other
            rows, so that an optimizer can leave their momentum and weights unchanged.
        processes: those that share the classes, each :meth:`~arcinvert.distributed.Processes.share`.

    Raises:
        UsageError: a setting that does not fit.
    """

    SHARDED = ("centers", "bias", "moving_centers", "hits")
    """The tensors of the state with a row for each class."""

    norm_mean: Tensor
    norm_deviation: Tensor
    moving_centers: Tensor
    hits: Tensor

    def __init__(
        self,
        embedding_size: int,
        classes: int,
        *,
        margin: Margin | AdaFace | None,
        scale: float = 64.0,
        subcenters: int = 1,
        past_pi: str = "monotone",
        extra_losses: Mapping[str, float] | None = None,
        sampling: float = 1.0,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        super().__init__()
        check_past_pi(past_pi)
        if subcenters < 1:
            raise UsageError(f"expected at least 1 sub-center per class, got {subcenters}")
        if not 0 < sampling <= 1:
            raise UsageError(f"expected a sampling rate above 0 and up to 1, got {sampling}")
        for name, weight in (extra_losses or {}).items():
            if name not in LOSSES or not 0 <= weight < math.inf:
                raise UsageError(f"expected losses out of {', '.join(LOSSES)}, weight >= 0; got {name!r}: {weight}")
        self.margin, self.scale, self.past_pi = margin, scale, past_pi
        self.extra_losses = {name: weight for name, weight in (extra_losses or {}).items() if weight}
        self.classes, self.sampling, self.processes, self.part = classes, sampling, processes, processes.share(classes)
        own = len(self.part)
        shape = (embedding_size,) if subcenters == 1 else (subcenters, embedding_size)
        self.centers = nn.Parameter(torch.empty(own, *shape))
        with torch.no_grad():
            for start in range(
                0, classes, DRAWN_AT_ONCE
            ):  # every process draws all, so that the rows are those of a single one
                drawn = torch.empty(min(DRAWN_AT_ONCE, classes - start), *shape).normal_(0.0, 0.01)
                low, high = max(start, self.part.start), min(start + DRAWN_AT_ONCE, self.part.stop)
                if low < high:
                    self.centers[low - self.part.start : high - self.part.start] = drawn[low - start : high - start]
        if margin is None:
            self.bias = nn.Parameter(torch.zeros(own))
        if isinstance(margin, AdaFace):  # the initial values of its authors
            self.register_buffer("norm_mean", torch.tensor(20.0))
            self.register_buffer("norm_deviation", torch.tensor(100.0))
        if "center" in self.extra_losses:
            self.register_buffer("moving_centers", torch.zeros(own, embedding_size))
        if subcenters > 1:
            self.register_buffer("hits", torch.zeros(own, subcenters, dtype=torch.int64))

    def forward(self, features: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> HeadOutput:
        """Loss and target cosine per image; each process receives those of its own images.

        AdaFace's statistics are updated with the batch (of all processes) first; otherwise an image's loss does not
        depend on the others, except for the triplet loss, and for the classes that sampling draws.

        Args:
            features: (B, D), of any norm; B may differ between processes and may be 0.
            labels: (B,), integers below the number of classes (of all processes).
            generator: draws the classes if ``sampling`` is below 1; a CPU generator in the same state in all
                processes. Default: torch's own.

        Returns:
            Float32 at least, also under autocast.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
            counts = sizes(len(features), self.processes, features.device)
            features = gather_rows(features, counts, self.processes)
            labels = gather_rows(labels, counts, self.processes)
            whole = self._forward_all(features, labels, generator)
            mine = own_part(counts, self.processes)
            return HeadOutput(whole.loss[mine], whole.cosine[mine])

    def _forward_all(self, features: Tensor, labels: Tensor, generator: torch.Generator | None) -> HeadOutput:
        """The output for the images of all processes."""
        rows = ((labels >= self.part.start) & (labels < self.part.stop)).nonzero()[:, 0]
        here = place = labels[rows] - self.part.start
        drawn, compared = None, self.classes
        if self.training and self.sampling < 1:
            drawn, compared = self._draw(labels, generator)
            place = torch.searchsorted(drawn, here)
        batch = _Batch(features, normalize(features), labels, rows, place)
        unit = self.margin is not None
        every = inner_products(batch.embeddings if unit else features, self.centers, drawn, unit=unit)
        if self.training and every.ndim == 3:
            self._count(here, every.detach()[rows, place])
        logits = every if every.ndim == 2 else every.amax(2)
        if self.margin is None:
            logits = logits + (self.bias if drawn is None else lookup(self.bias, drawn)).to(features.dtype)
            own = own_center(features[rows], here, self.centers.detach().to(features.dtype))
            target, cosine = logits[rows, place], (normalize(own) * batch.embeddings[rows]).sum(1)
        else:
            cosine = logits[rows, place]
            target = self.scale * self._margin(self.margin, cosine, batch)
            logits = self.scale * logits
            logits[rows, place] = target
        highest = logits.detach().amax(1) if logits.shape[1] else logits.new_full((len(labels),), -math.inf)
        highest = all_max(highest, self.processes)
        part = (
            logits.sub_(highest[:, None]).exp_().sum(1)
        )  # in place: logits may be large, and nothing needs them after
        known = features.new_zeros(2, len(labels)).index_put((torch.zeros_like(rows), rows), target - highest[rows])
        known = known.index_put((torch.ones_like(rows), rows), cosine.detach())
        total, (own_logit, own_cosine) = all_sum(part, self.processes), all_sum(known, self.processes)
        loss = total.log() - own_logit
        if self.extra_losses:
            centers = self.centers if drawn is None else lookup(self.centers, drawn)
            centers = normalize(centers.to(features.dtype), dim=-1)
            for name, weight in self.extra_losses.items():
                loss = loss + weight * self._extra_loss(name, batch, centers, compared)
        return HeadOutput(loss, own_cosine.detach())

    def _draw(self, labels: Tensor, generator: torch.Generator | None) -> tuple[Tensor, int]:
        """Rows of this process's centers to compare with, ascending, and the number of classes over all processes."""
        order = torch.randperm(self.classes, generator=generator)
        chosen = torch.zeros(self.classes, dtype=torch.bool)
        chosen[labels.cpu()] = True
        positives = int(chosen.sum())
        others = order[~chosen[order]][: max(round(self.sampling * self.classes) - positives, 0)]
        chosen[others] = True
        drawn = chosen[self.part.start : self.part.stop].nonzero()[:, 0]
        return drawn.to(labels.device), positives + len(others)

    def _margin(self, margin: Margin | AdaFace, cosine: Tensor, batch: "_Batch") -> Tensor:
        if isinstance(margin, Margin):
            return margin(cosine, past_pi=self.past_pi)
        norms = batch.features.detach().norm(dim=1)
        if self.training:
            mean, deviation = margin.running(norms, self.norm_mean, self.norm_deviation)
            self.norm_mean.copy_(mean)
            self.norm_deviation.copy_(deviation)
        m2, m3 = margin.margins(norms[batch.rows], self.norm_mean, self.norm_deviation)
        return combined_margin(cosine, 1.0, m2, m3, past_pi=self.past_pi)

    def _extra_loss(self, name: str, batch: "_Batch", centers: Tensor, compared: int) -> Tensor:
        """One of the extra losses of the images of all processes, (B,)."""
        if name == "triplet":
            return LOSSES[name](batch.embeddings, batch.labels, centers)
        if name == "center":
            here = batch.labels[batch.rows] - self.part.start
            own = self.moving_centers[here].to(centers.dtype)
            if self.training:
                moved, where = moved_centers(batch.features[batch.rows], here, self.moving_centers)
                self.moving_centers[moved] = where.to(self.moving_centers.dtype)
        else:
            own = own_center(batch.embeddings[batch.rows], batch.place, centers)
        own = all_sum(own.new_zeros(len(batch.labels), own.shape[1]).index_put((batch.rows,), own), self.processes)
        if name != "inter":
            of = batch.features if name == "center" else batch.embeddings
            return LOSSES[name](of, torch.arange(len(of), device=of.device), own)
        # defined also where sampling drew no class of this process, so that the gradient has a path
        cosines = class_products(own, centers) if len(centers) else own @ centers.flatten(0, -2).T
        between = angle(cosines).index_put((batch.rows, batch.place), own.new_zeros(()))
        return -all_sum(between.sum(1), self.processes) / (math.pi * max(compared - 1, 1))

    def reset_hits(self) -> None:
        """Set the counts of the nearest sub-centers to 0."""
        if self.centers.ndim == 3:
            self.hits.zero_()

    @torch.no_grad()
    def _count(self, here: Tensor, cosines: Tensor) -> None:
        self.hits.index_put_((here, cosines.argmax(1)), torch.ones_like(here), accumulate=True)


class _Batch(NamedTuple):
    """The images of all processes; ``rows`` of them have a class of this process, whose center is row ``place``."""

    features: Tensor
    embeddings: Tensor
    labels: Tensor
    rows: Tensor
    place: Tensor
