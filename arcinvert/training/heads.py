"""The margin head: class centres and the loss per image.

cosine -> margin on the target -> scale -> cross-entropy. The centres are templates of the
training identities, so a released checkpoint leaves the head out unless it is asked for.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from arcinvert.training.margins import Margin


class MarginHead(nn.Module):
    """Class centres on the unit sphere, and the margin loss of an embedding to them.

    Args:
        embedding_size: D.
        classes: how many identities.
        margin: what happens to the target cosine.
        scale: s, the factor on every cosine (64 in the paper).
    """

    def __init__(self, embedding_size: int, classes: int, *, margin: Margin, scale: float = 64.0) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.centres = nn.Parameter(torch.empty(classes, embedding_size))
        nn.init.normal_(self.centres, 0.0, 0.01)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Loss per image.

        Args:
            features: (B, D), of any norm.
            labels: (B,), integers below the number of classes.

        Returns:
            (B,), natural logarithm, float32, also under autocast.
        """
        with torch.autocast(features.device.type, enabled=False):
            cosine = normalize(features.float()) @ normalize(self.centres.float()).T
            rows = torch.arange(len(labels), device=labels.device)
            target = self.margin(cosine[rows, labels])
            logits = self.scale * cosine.index_put((rows, labels), target)
            return cross_entropy(logits, labels, reduction="none")
