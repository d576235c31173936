"""Train the generator's early exit: its picture from the maps of an early layer, for the steps that seek a face.

    python scripts/train_early_exit.py

It fits patches of faces that the whole generator drew, and draws a new face every few steps. The latents are those of
the face prior, mixed and exaggerated as an inversion does. It prints the error on faces that it is not trained on, and
goes on from where it was if it is started again; then it draws other faces than it would have.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from arcinvert.checkpoint import load_checkpoint, load_strictly, save_checkpoint
from arcinvert.device import has_bfloat16
from arcinvert.faceprior.generator import LAYERS, SHAPES, EarlyExit, FaceGenerator
from arcinvert.faceprior.prior import FacePrior, load_face_prior
from arcinvert.formats.license import GENERATOR

PATCH, EDGE, EACH = 44, 2, 3
"""Height and width of a patch, its edge that does not count, and how many are kept of a face."""
FIRST, EVERY, POOL, BATCH = 60, 5, 1800, 12
"""Faces drawn before the first step, one more in so many steps, patches that are kept, and those of a step."""
RIDGE = 1.0
"""How much large weights cost in the linear one that it begins with."""
TESTED = 60
"""Faces that it is tested on."""
Patch = tuple[Tensor, Tensor, Tensor]
"""Maps (256, P, P), late latents (256,), the colors (3, P, P) that the whole generator draws; or a batch of them."""


def drawn_latents(prior: FacePrior, generator: torch.Generator) -> Tensor:
    """(1, 16, 768) latents of the layers of a face: of one face, with the colors of another, or exaggerated."""

    def one(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    latent = prior.latents([one(len(prior))])
    kind = one(3)
    if kind == 1:
        latent[:, prior.late] = prior.latents([one(len(prior))])[:, prior.late]
    if kind == 2:
        scale = 0.7 + 0.8 * torch.rand(1, generator=generator)
        latent = latent * scale + 0.3 * torch.randn(1, prior.size, generator=generator)
    each = latent[:, None].repeat(1, LAYERS, 1)
    if one(2):
        offsets = torch.randn(1, LAYERS, prior.late.start, generator=generator)
        each[..., : prior.late.start] += 0.5 * torch.rand(1, generator=generator) * offsets
    return each


@torch.no_grad()
def patches(network: FaceGenerator, each: Tensor, generator: torch.Generator, count: int) -> list[Patch]:
    """Some patches of one face."""
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(each.device)):  # in software it takes minutes
        maps, late = network.maps(each, EarlyExit.AFTER + 1)
        x, last = network.maps(each, len(SHAPES))
    x = x.float()
    colors = (network.last.weight * network.style(last)[:, None]) @ x.flatten(2) + network.last.bias[:, None]
    side = maps.shape[-1]
    colors = avg_pool2d(colors.view(1, 3, x.shape[-1], -1), x.shape[-1] // side)
    found = []
    for _ in range(count):
        top, left = torch.randint(side - PATCH + 1, (2,), generator=generator).tolist()
        window = (0, slice(None), slice(top, top + PATCH), slice(left, left + PATCH))
        found.append((maps[window].clone(), late[0], colors[window].clone()))
    return found


def whole_generator(path: Path) -> FaceGenerator:
    """The generator of a file, its early exit untrained."""
    network = FaceGenerator()
    untrained = {f"early_exit.{name}": value for name, value in network.early_exit.state_dict().items()}
    load_strictly(network, load_checkpoint(path).network() | untrained, repr(str(path)))
    return network.eval().requires_grad_(False)


def stacked(found: list[Patch]) -> Patch:
    """A batch of patches."""
    maps, late, colors = (torch.stack(parts).float() for parts in zip(*found, strict=True))
    return maps, late, colors


def errors(early_exit: EarlyExit, found: Patch) -> tuple[Tensor, Tensor]:
    """(B, 3, ...) differences of colors, and of what is seen of them."""
    maps, late, colors = found
    inner = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    drawn, colors = early_exit(maps, late)[inner], colors[inner]
    return drawn - colors, drawn.clamp(-2, 2) - colors.clamp(-2, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("arcinvert/data"), help="of the package; the file goes there")
    parser.add_argument("--state", type=Path, default=Path("early_exit.pt"), help="to go on from")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    prior = load_face_prior(options.data / "face_prior.safetensors")
    network = whole_generator(options.data / "generator.safetensors")
    apart = torch.Generator().manual_seed(options.seed + 1)
    tested = stacked([p for _ in range(TESTED) for p in patches(network, drawn_latents(prior, apart), apart, 1)])
    generator = torch.Generator().manual_seed(options.seed)
    pool = [p for _ in range(FIRST) for p in patches(network, drawn_latents(prior, generator), generator, EACH)]

    torch.manual_seed(options.seed)
    early_exit = started(network, stacked(pool))
    optimizer = torch.optim.Adam(early_exit.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, options.steps)
    begun = 0
    if options.state.exists():
        state = torch.load(options.state, weights_only=True)
        begun = state["step"]
        for part, name in ((early_exit, "early_exit"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
        generator.manual_seed(options.seed + 2 + begun)
    for step in range(begun, options.steps):
        if step % EVERY == 0:
            pool = [*pool[-POOL:], *patches(network, drawn_latents(prior, generator), generator, EACH)]
        rows = torch.randperm(len(pool), generator=generator)[:BATCH].tolist()
        exact, seen = errors(early_exit, stacked([pool[row] for row in rows]))
        optimizer.zero_grad()
        (seen.square().mean() + 0.1 * exact.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(early_exit.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            parts = {"early_exit": early_exit, "optimizer": optimizer, "schedule": schedule}
            torch.save({"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}, options.state)
            with torch.no_grad():
                error = 255 / 4 * float(errors(early_exit, tested)[1].square().mean((1, 2, 3)).sqrt().mean())
            print(f"step {step + 1}: {error:.2f} of 255 from the whole generator", flush=True)
    tensors = {f"network.{name}": value.half() for name, value in early_exit.state_dict().items()}
    source = "trained on what the generator draws, by scripts/train_early_exit.py"
    header = {"kind": "generator early exit", "source": source, "license": GENERATOR}
    save_checkpoint(options.data / "generator_early_exit.safetensors", header, tensors)


def started(network: FaceGenerator, found: Patch) -> EarlyExit:
    """An early exit before its training: the best linear one on some patches."""
    early_exit = EarlyExit()
    rise = network.layers[EarlyExit.AFTER + 1].rise
    assert isinstance(rise, torch.nn.Linear)
    maps, late, colors = (part.movedim(1, -1).flatten(0, -2) if part.ndim > 2 else part for part in found)
    known = torch.cat([maps, torch.ones(len(maps), 1)], 1).double()
    fitted = torch.linalg.solve(known.T @ known + RIDGE * torch.eye(known.shape[1]), known.T @ colors.double()).float()
    with torch.no_grad():
        scale = (found[0].square().mean() * rise(late).square().mean()).sqrt()
        early_exit.rise.weight.copy_(rise.weight / scale)
        early_exit.rise.bias.copy_(rise.bias / scale)
        early_exit.depth.normal_(std=0.1)
        early_exit.depth[:, :, 1, 1] += 1
        for style in early_exit.styles:
            assert isinstance(style, torch.nn.Linear)
            style.weight.mul_(0.1)
            style.bias.fill_(1)
        early_exit.colors.weight.zero_()
        early_exit.direct.weight.copy_(fitted[:-1].T)
        early_exit.colors.bias.copy_(fitted[-1])
    return early_exit.train().requires_grad_(True)


if __name__ == "__main__":
    main()
