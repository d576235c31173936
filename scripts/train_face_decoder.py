"""Train the face decoder: it learns to draw what the generator of ``torch_generator.py`` draws.

    python scripts/torch_generator.py --out generator.npz
    python scripts/train_face_decoder.py --generator generator.npz --out DIR --minutes 9

The batches come from a bank of the generator's pictures, to which every step adds new ones. The decoder's pictures of
112 and 224 pixels are held to the generator's by their pixels on several scales, by the maps of the checkpoint and of
the auxiliary recognizer, and, from a quarter of the time on, by a discriminator (Goodfellow et al. 2014, hinge loss).
One GPU.
"""

import argparse
import io
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm
from torch_generator import generator_of

from arcinvert.calibration.auxiliary import BLOCKS, default_auxiliary
from arcinvert.device import has_bfloat16
from arcinvert.faceprior.decoder import FaceDecoder
from arcinvert.faceprior.generator import AXES, FaceGenerator
from arcinvert.recognizer import Recognizer, default_checkpoint

SIZES = {"start": 96, "widths": (512, 256, 128, 64, 32, 16), "counts": (2, 2, 2, 1, 2)}
"""Of the decoder; see :class:`~arcinvert.faceprior.decoder.FaceDecoder`."""
LAYERS = ("layer1.1.bn3", "layer2.1.bn3", "layer3.1.bn3")
HELD = 256
ADVERSARIAL_FROM = 0.25


class Discriminator(nn.Module):
    """(B, 3, S, S) -> scores of patches."""

    def __init__(self, widths: tuple[int, ...] = (48, 96, 192, 256)) -> None:
        super().__init__()
        convs, before = [], 3
        for width in widths:
            convs.append(spectral_norm(nn.Conv2d(before, width, 4, 2, 1)))
            before = width
        self.convs = nn.ModuleList(convs)
        self.mix = spectral_norm(nn.Conv2d(before + 1, before, 3, padding=1))
        self.score = spectral_norm(nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        x = images * 4 - 2
        for conv in self.convs:
            x = leaky_relu(conv(x), 0.2)
        groups = x.reshape(max(1, len(x) // 8), -1, *x.shape[1:]).float()
        spread = groups.var(1, unbiased=False).add(1e-6).sqrt().mean((1, 2, 3))
        spread = spread.repeat_interleave(groups.shape[1]).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])
        x = leaky_relu(self.mix(torch.cat([x, spread.to(x.dtype)], 1)), 0.2)
        return self.score(x).float()  # type: ignore[no-any-return]


def draw(people: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """(B, 768) latents: people, their mixtures, people between two, with more or less truncation and some noise."""
    device = people.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng, device=device)

    def rows() -> Tensor:
        one = torch.randint(len(people) - HELD, (count, 3), generator=rng, device=device)
        return torch.where(uniform(count, 1) < 0.5, one[:, :1], one)

    first, second = people[rows()], people[rows()]
    share = torch.where(uniform(count, 1, 1) < 0.3, uniform(count, 1, 1), torch.ones((), device=device))
    latents = share * first + (1 - share) * second
    latents = latents * (0.4 + 0.65 * uniform(count, 1, 1))
    noise = torch.randn(latents.shape, generator=rng, device=device)
    latents = latents + noise * 0.5 * uniform(count, 1, 1) * (uniform(count, 1, 1) < 0.5)
    return latents.flatten(1)


def pyramid(x: Tensor, y: Tensor, levels: int) -> Tensor:
    """Mean absolute difference of the bands of two batches of pictures."""
    cost = x.new_zeros(())
    for _ in range(levels):
        small_x, small_y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        up_x, up_y = (interpolate(v, scale_factor=2, mode="bilinear") for v in (small_x, small_y))
        cost = cost + ((x - up_x) - (y - up_y)).abs().mean()
        x, y = small_x, small_y
    return cost + 2 * (x - y).abs().mean()


class Lenses(nn.Module):
    """Differences between pictures as recognizers see them."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.own = Recognizer.load(default_checkpoint()).to(device)
        self.other = default_auxiliary(device)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Two batches of 112x112 -> difference of maps, and one less the cosine of embeddings."""
        maps, cosine = x.new_zeros(()), x.new_zeros(())
        for network, layers in ((self.own, LAYERS), (self.other, BLOCKS)):
            mine = network.trace(x, taps=layers)
            with torch.no_grad():
                theirs = network.trace(y, taps=layers)
            for layer in layers:
                a, b = mine.activations[layer].float(), theirs.activations[layer].float()
                maps = maps + (a - b).abs().mean() / b.abs().mean()
            cosine = cosine + 1 - (mine.embedding.float() * theirs.embedding.float()).sum(1).mean()
        return maps / 6, cosine / 2

    def texture(self, x: Tensor, y: Tensor, corner: tuple[int, int]) -> Tensor:
        """Difference of the first maps on a quarter of two batches of 224x224."""
        top, left = corner
        x, y = (v[:, :, top : top + 112, left : left + 112] for v in (x, y))
        a = self.own.trace(x, taps=LAYERS[:2]).activations
        with torch.no_grad():
            b = self.own.trace(y, taps=LAYERS[:2]).activations
        return (
            sum(((a[k] - b[k]).float().abs().mean() / b[k].float().abs().mean() for k in LAYERS[:2]), x.new_zeros(()))
            / 2
        )


class Student:
    """A decoder in training, its discriminators, optimizers and moving average."""

    def __init__(self, device: torch.device, rate: float) -> None:
        self.network = FaceDecoder(**SIZES).to(device, memory_format=torch.channels_last)
        self.average = FaceDecoder(**SIZES).to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.judges = nn.ModuleList([Discriminator(), Discriminator()]).to(device, memory_format=torch.channels_last)
        groups = [
            {"params": [p], "unit": 0.3 if p.ndim == 1 else float(p.detach().std())} for p in self.network.parameters()
        ]  # every weight moves by the same share of its size
        self.optimizer = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99), fused=device.type == "cuda")
        self.judge_optimizer = torch.optim.Adam(
            self.judges.parameters(), lr=2e-4, betas=(0.0, 0.99), fused=device.type == "cuda"
        )

    def step(
        self, z: Tensor, y224: Tensor, y112: Tensor, lenses: Lenses, corner: tuple[int, int], share: float
    ) -> dict[str, float | Tensor]:
        drawn = self.network.pictures(z, 224)
        x112, x224 = drawn[112].float(), drawn[224].float()
        pixel = pyramid(x224, y224, 5) + pyramid(x112, y112, 4)
        maps, cosine = lenses(x112, y112)
        texture = lenses.texture(x224, y224, corner)
        cost = 10 * pixel + maps + texture + cosine
        said = {"pixel": pixel, "maps": maps, "texture": texture, "cosine": cosine}
        if share >= ADVERSARIAL_FROM:
            for judge, x in zip(self.judges, (x224, x112), strict=True):
                judge.requires_grad_(False)
                fooled = -judge(x).mean()
                judge.requires_grad_(True)
                cost = cost + 0.05 * min(1.0, (share - ADVERSARIAL_FROM) * 10) * fooled
        self.optimizer.zero_grad(set_to_none=True)
        cost.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 100.0)
        self.optimizer.step()
        if share >= ADVERSARIAL_FROM - 0.03:
            wrong = z.new_zeros(())
            for judge, x, y in zip(self.judges, (x224, x112), (y224, y112), strict=True):
                wrong = wrong + relu(1 - judge(y)).mean() + relu(1 + judge(x.detach())).mean()
            self.judge_optimizer.zero_grad(set_to_none=True)
            wrong.backward()
            self.judge_optimizer.step()
            said["judge"] = wrong
        return {**{k: v.detach() for k, v in said.items()}, "norm": norm}

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average."""
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)


def half_products(device: torch.device, kind: torch.dtype | None = None) -> torch.autocast:
    """Products in half precision, where the device has it: in software they take minutes."""
    gpu = device.type == "cuda"
    return torch.autocast(
        device.type, kind or (torch.float16 if gpu else torch.bfloat16), enabled=gpu or has_bfloat16(device)
    )


class Bank:
    """Pictures of the generator, the newest ones in place of the oldest: to draw one costs more than a step on it."""

    def __init__(self, teacher: FaceGenerator, people: Tensor, size: int, rng: torch.Generator) -> None:
        self.teacher, self.people, self.rng = teacher, people, rng
        self.latents = torch.zeros(size, 3 * AXES, device=people.device)
        self.images = torch.zeros(size, 3, 224, 224, dtype=torch.uint8, device=people.device)
        self.count = self.next = 0

    @torch.no_grad()
    def fill(self, count: int, part: int = 48) -> None:
        """Draw so many."""
        for size in [part] * (count // part) + [count % part] * bool(count % part):
            z = draw(self.people, size, self.rng)
            with half_products(z.device):
                faces = self.teacher(z)
            rows = (torch.arange(size, device=z.device) + self.next) % len(self.latents)
            self.latents[rows], self.images[rows] = z, (faces.float() * 255).round().byte()
            self.next = (self.next + size) % len(self.latents)
            self.count = min(len(self.latents), self.count + size)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """(B, 768) and (B, 3, 224, 224) in [0, 1], at random."""
        rows = torch.randint(self.count, (count,), generator=self.rng, device=self.latents.device)
        images = self.images[rows].float() / 255
        return self.latents[rows], images.contiguous(memory_format=torch.channels_last)


def train(options: argparse.Namespace) -> None:
    """The whole run."""
    started = time.monotonic()
    device = torch.device(options.device)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    stored = dict(np.load(options.generator))
    teacher = generator_of(stored).to(device)
    people = torch.from_numpy(stored["people"] * stored["people_scale"]).float().to(device)
    lenses = Lenses(device)
    rng = torch.Generator(device).manual_seed(options.seed)
    student = Student(device, options.rate)
    total, step, sums, shown = options.minutes * 60, 0, {}, time.monotonic()
    place = np.random.default_rng(options.seed)
    bank = Bank(teacher, people, options.bank, rng)
    bank.fill(options.first)
    print(f"{time.monotonic() - started:.0f} s: the bank has {bank.count} pictures", flush=True)
    while (share := (time.monotonic() - started) / total) < 1:
        bank.fill(options.fresh)
        z, y224 = bank.batch(options.batch)
        y112 = avg_pool2d(y224, 2)
        rate = options.rate * min(1, (step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * share)) * 0.98 + 0.02)
        corner = tuple(int(v) for v in place.integers(0, 113, 2))
        for group in student.optimizer.param_groups:
            group["lr"] = rate * group["unit"]
        with half_products(device, torch.bfloat16):
            said = student.step(z, y224, y112, lenses, corner, share)
        student.follow(min(0.999, (1 + step) / (10 + step)))
        for key, value in said.items():
            sums[key] = sums.get(key, 0) + value
        step += 1
        if step in (5, 20, 100) or step % 250 == 0:
            now = time.monotonic()
            print(
                step,
                f"{now - started:.0f} s, {now - shown:.1f} since,",
                {k: round(float(v) / max(1, min(step, 250)), 4) for k, v in sums.items()},
                flush=True,
            )
            shown = now
            if step % 250 == 0:
                sums = {}
        if options.steps and step >= options.steps:
            break
    save(student, teacher, people, lenses, options, step)


@torch.no_grad()
def save(
    student: Student,
    teacher: FaceGenerator,
    people: Tensor,
    lenses: Lenses,
    options: argparse.Namespace,
    step: int,
) -> None:
    """The decoder in half precision, a sheet, how near they come on people held out, and faces to calibrate on."""
    device = people.device
    z = (0.8 * people[-HELD:].repeat(1, 3))[: options.held]
    with half_products(device):
        y = torch.cat([teacher(part) for part in z.split(options.part)])
    rows = [y[:16]]
    x = torch.cat([student.average(part, 224) for part in z.split(options.part)])
    rows.append(x[:16].clamp(0, 1))
    cosines = [
        (n.embed(avg_pool2d(x, 2).clamp(0, 1)) * n.embed(avg_pool2d(y, 2))).sum(1).mean().item()
        for n in (lenses.own, lenses.other)
    ]
    print(
        "steps",
        step,
        "held out: L1",
        float((x - y).abs().mean()),
        "cosine own, auxiliary",
        cosines,
        flush=True,
    )
    state = {k: v.half().cpu() for k, v in student.average.state_dict().items()}
    count = 0
    parts: list[dict[str, Tensor]] = [{}]
    for key, value in state.items():
        if count + value.numel() > 7_500_000:
            parts.append({})
            count = 0
        parts[-1][key] = value
        count += value.numel()
    for number, part in enumerate(parts):
        torch.save(part, options.out / f"decoder.{number}.pt")
    sheet = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    Image.fromarray((sheet.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)).save(
        options.out / "held_out.jpg", quality=92
    )
    faces(teacher, people, options)


@torch.no_grad()
def faces(teacher: FaceGenerator, people: Tensor, options: argparse.Namespace) -> None:
    """Crops of 112x112 to calibrate on, each of a person of its own, as WebP files in a row, and their latents."""
    from concurrent.futures import ThreadPoolExecutor

    rng = torch.Generator(people.device).manual_seed(1)
    count = options.faces
    own = people[:count].unsqueeze(1).expand(-1, 3, -1).clone()
    for group in range(3):  # three in ten take one group of another person
        other = torch.randint(len(people), (count,), generator=rng, device=people.device)
        swap = torch.rand(count, generator=rng, device=people.device) < 0.1
        own[swap, group] = people[other[swap]]
    own = own * (0.6 + 0.4 * torch.rand(count, 1, 1, generator=rng, device=people.device))
    scale = own.flatten(1).abs().amax(0) / 127
    codes = (own.flatten(1) / scale).round().clamp(-127, 127)
    files: list[bytes] = []

    def encode(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", quality=options.quality, method=6)
        return file.getvalue()

    with ThreadPoolExecutor(16) as pool:
        for part in (codes * scale).split(options.part):
            with half_products(people.device):
                crops = avg_pool2d(teacher(part), 2)
            files += pool.map(encode, (crops.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8))
    for number in range(2):
        chosen = range(number * count // 2, (number + 1) * count // 2)
        np.savez(
            options.out / f"faces.{number}.npz",
            webp=np.frombuffer(b"".join(files[i] for i in chosen), np.uint8),
            offsets=np.cumsum([0, *(len(files[i]) for i in chosen)]),
            codes=codes[chosen.start : chosen.stop].cpu().numpy().astype(np.int8),
            scale=scale.cpu().numpy(),
        )
    print("faces", count, "bytes", sum(map(len, files)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--steps", type=int, default=0, help="0: as many as the time allows")
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--bank", type=int, default=80_000, help="pictures that are kept on the device")
    parser.add_argument("--first", type=int, default=3000, help="pictures before the first step")
    parser.add_argument("--fresh", type=int, default=24, help="new pictures in a step")
    parser.add_argument("--part", type=int, default=96, help="pictures that the generator draws at a time")
    parser.add_argument("--rate", type=float, default=5e-3, help="step, in units of a weight's size")
    parser.add_argument("--held", type=int, default=HELD)
    parser.add_argument("--faces", type=int, default=7000)
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
