"""The pass through the network under torch.compile.

It takes half a minute or more to start, so it is for long runs on GPUs; two CPU cores are slower with it. Where it
cannot be had, the pass goes on as it is.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from arcinvert.recognizer import Recognizer, Tapped, Trace

Tracer = Callable[[Tensor, Tensor | None], Trace]
"""From images (B, 3, 112, 112) RGB in [0, 1] and their latent to the trace."""


class CompiledNetwork:
    """A recognizer's network under torch.compile, once for each set of taps.

    Use it as a context: in the end the recognizer is as it was.

    Args:
        recognizer: on its device; compiled in the first pass.
        say: told, once, why it cannot be compiled, if so.
    """

    def __init__(self, recognizer: Recognizer, say: Callable[[str], None]) -> None:
        self.recognizer, self.say = recognizer, say
        self.possible = True
        self.tapped: Tapped | None = None
        self.made: dict[tuple[tuple[str, ...], torch.dtype], Tracer] = {}

    def __enter__(self) -> "CompiledNetwork":
        return self

    def __exit__(self, *error: object) -> None:
        self._release()

    def tracer(self, taps: Sequence[str], precision: torch.dtype) -> Tracer:
        """What :meth:`Recognizer.trace` gives with such taps, in such precision of convolutions and products."""
        key = (tuple(taps), precision)
        if key not in self.made:
            self._release()  # a pass writes down only what this set of taps wants
            self.made = {key: self._compiled(*key)}
        return self.made[key]

    def _release(self) -> None:
        if self.tapped is not None:
            self.tapped.release()
            self.tapped = None

    def _compiled(self, taps: tuple[str, ...], precision: torch.dtype) -> Tracer:
        from torch._dynamo.exc import TorchDynamoException  # slow to import, so only where it is asked for

        recognizer = self.recognizer
        self.tapped = recognizer.tapped(taps)
        fast: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]] = torch.compile(self.tapped)

        def trace(images: Tensor, latent: Tensor | None) -> Trace:
            if self.possible:
                shown = recognizer.preprocessing(images).contiguous(memory_format=torch.channels_last)
                try:
                    with (
                        warnings.catch_warnings(),
                        torch.autocast(shown.device.type, precision, enabled=precision != torch.float32),
                    ):
                        # The compiler looks whether its input, the view, is a leaf.
                        warnings.filterwarnings("ignore", message="The .grad attribute", category=UserWarning)
                        features, kept = fast(shown)
                    return Trace(images, normalize(features.float()), kept, latent)
                except TorchDynamoException as error:
                    self.possible = False
                    self._release()
                    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
                    reason = (lines or [type(error).__name__])[0]
                    self.say(f"torch.compile cannot be had here, going on without it: {reason}")
            return recognizer.trace(images, taps=taps, latent=latent, precision=precision)

        return trace
