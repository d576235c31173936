"""The margin head: class centres and the loss per image.

cosine -> margin on the target -> scale -> cross-entropy. The centres are templates of the
training identities, so a released checkpoint leaves the head out unless it is asked for.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from arcinvert.errors import UsageError
from arcinvert.training.losses import LOSSES, class_products, moved_centres
from arcinvert.training.margins import AdaFace, Margin, check_beyond, combined_margin


class MarginHead(nn.Module):
    """Class centres on the unit sphere, and the margin loss of an embedding to them.

    The state holds ``centres``, (classes, D) or (classes, K, D), and where it is needed ``bias``
    (classes,), ``norm_mean`` and ``norm_deviation`` of AdaFace, ``moving_centres`` (classes, D) of
    the centre loss. The last three move in training mode only.

    Args:
        embedding_size: D.
        classes: how many identities.
        margin: what happens to the target cosine. None is plain softmax: inner products of
            features and centres as they are, plus a bias (Deng et al. 2019, Eq. 1); ``scale``,
            ``beyond`` and ``exact`` then have no meaning.
        scale: s, the factor on every cosine (64 in the paper).
        subcentres: K centres per class, the nearest counts (Deng et al. 2020; K = 3 there).
        beyond, exact: see :func:`~arcinvert.training.margins.combined_margin`.
        extras: weights of further losses, by their names in :data:`~arcinvert.training.losses.LOSSES`;
            those of weight 0 are left out.

    Raises:
        UsageError: a setting that does not fit.
    """

    norm_mean: Tensor
    norm_deviation: Tensor
    moving_centres: Tensor

    def __init__(
        self,
        embedding_size: int,
        classes: int,
        *,
        margin: Margin | AdaFace | None,
        scale: float = 64.0,
        subcentres: int = 1,
        beyond: str = "monotone",
        exact: bool = True,
        extras: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        check_beyond(beyond)
        if subcentres < 1:
            raise UsageError(f"expected at least 1 sub-centre per class, got {subcentres}")
        for name, weight in (extras or {}).items():
            if name not in LOSSES or not 0 <= weight < math.inf:
                raise UsageError(f"expected losses out of {', '.join(LOSSES)}, weight >= 0; got {name!r}: {weight}")
        self.margin, self.scale, self.beyond, self.exact = margin, scale, beyond, exact
        self.extras = {name: weight for name, weight in (extras or {}).items() if weight}
        shape = (classes, embedding_size) if subcentres == 1 else (classes, subcentres, embedding_size)
        self.centres = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.centres, 0.0, 0.01)
        if margin is None:
            self.bias = nn.Parameter(torch.zeros(classes))
        if isinstance(margin, AdaFace):  # the values that its authors start from
            self.register_buffer("norm_mean", torch.tensor(20.0))
            self.register_buffer("norm_deviation", torch.tensor(100.0))
        if "centre" in self.extras:
            self.register_buffer("moving_centres", torch.zeros(classes, embedding_size))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss per image.

        AdaFace's statistics take up the batch first; otherwise an image's loss does not depend on
        the others, but for the triplet loss.

        Args:
            features: (B, D), of any norm.
            labels: (B,), integers below the number of classes.

        Returns:
            (B,), natural logarithm, float32 at least, also under autocast.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
            weights = self.centres.to(features.dtype)
            embeddings, centres = normalize(features), normalize(weights, dim=-1)
            if self.margin is None:
                logits = class_products(features, weights) + self.bias.to(features.dtype)
            else:
                cosine = class_products(embeddings, centres)
                rows = torch.arange(len(labels), device=labels.device)
                target = self._target(self.margin, cosine[rows, labels], features)
                logits = self.scale * cosine.index_put((rows, labels), target)
            loss = cross_entropy(logits, labels, reduction="none")
            for name, weight in self.extras.items():
                if name == "centre":
                    loss = loss + weight * self._centre_loss(features, labels)
                else:
                    loss = loss + weight * LOSSES[name](embeddings, labels, centres)
            return loss

    def _target(self, margin: Margin | AdaFace, cosine: Tensor, features: Tensor) -> Tensor:
        if isinstance(margin, Margin):
            return margin(cosine, beyond=self.beyond, exact=self.exact)
        norms = features.detach().norm(dim=1)
        if self.training:
            mean, deviation = margin.running(norms, self.norm_mean, self.norm_deviation)
            self.norm_mean.copy_(mean)
            self.norm_deviation.copy_(deviation)
        m2, m3 = margin.margins(norms, self.norm_mean, self.norm_deviation)
        return combined_margin(cosine, 1.0, m2, m3, beyond=self.beyond, exact=self.exact)

    def _centre_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        loss = LOSSES["centre"](features, labels, self.moving_centres.to(features.dtype))
        if self.training:
            rows, moved = moved_centres(features, labels, self.moving_centres)
            self.moving_centres[rows] = moved.to(self.moving_centres.dtype)
        return loss
