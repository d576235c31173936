"""How a view runs its network: the precision of the products, and torch.compile.

Compilation takes half a minute or more to start, so it is for long runs on GPUs; two CPU cores are slower with it.
Where it is not possible, the network runs as it is.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.recognizer import Recognizer, Tapped, Trace

log = logging.getLogger(__name__)

FLOAT16_SCALE = 1024.0
"""Factor on the cost before a backward pass in float16, whose smallest number is 6e-8."""


class Tracer:
    """Runs a recognizer for an inversion.

    Use it as a context: at its end the recognizer is as it was.

    Args:
        precision: of convolutions and matrix products; statistics, embeddings and costs are float32.
        compile: run the network under torch.compile, once for each set of taps.
    """

    def __init__(self, precision: torch.dtype = torch.float32, *, compile: bool = False) -> None:
        self.precision, self.compile = precision, compile
        self._key: tuple[int, tuple[str, ...]] | None = None
        self._tapped: Tapped | None = None
        self._fast: Callable[..., tuple[Tensor, dict[str, Tensor]]] | None = None

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    @property
    def scale(self) -> float:
        """Factor on the cost before the backward pass, which keeps small gradients from vanishing."""
        return FLOAT16_SCALE if self.precision == torch.float16 else 1.0

    def trace(
        self,
        recognizer: Recognizer,
        images: Tensor,
        taps: Sequence[str],
        latent: Tensor | None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Trace:
        """One forward pass; see :meth:`~arcinvert.recognizer.Recognizer.trace`."""
        if self.compile:
            from torch._dynamo.exc import TorchDynamoException  # slow to import, so only for compilation

            try:
                return self._compiled(recognizer, images, tuple(taps), latent, weights)
            except TorchDynamoException as error:
                self.compile = False
                self._release()
                lines = [line.strip() for line in str(error).split("\n") if line.strip()]
                log.warning("torch.compile failed, continuing without it: %s", (lines or [type(error).__name__])[0])
        return recognizer.trace(images, taps=taps, latent=latent, precision=self.precision, weights=weights)

    def _compiled(
        self,
        recognizer: Recognizer,
        images: Tensor,
        taps: tuple[str, ...],
        latent: Tensor | None,
        weights: Mapping[str, Tensor] | None,
    ) -> Trace:
        if self._fast is None or self._key != (id(recognizer), taps):
            self._release()  # a pass keeps only what this set of taps reads
            self._tapped, self._key = recognizer.tapped(taps), (id(recognizer), taps)
            self._fast = torch.compile(self._tapped)
        shown = recognizer.preprocessing(images).contiguous(memory_format=torch.channels_last)
        with (
            warnings.catch_warnings(),
            torch.autocast(shown.device.type, self.precision, enabled=self.precision != torch.float32),
        ):
            # The compiler reads .grad of its input, which is no leaf.
            warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
            features, kept = self._fast(shown, weights)
        return Trace(images, normalize(features.float()), kept, latent)

    def _release(self) -> None:
        if self._tapped is not None:
            self._tapped.release()
        self._tapped = self._fast = self._key = None
