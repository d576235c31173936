"""What each defense of a store keeps, and what it leaves to an attacker who knows it.

    python benchmarks/defense_table.py --data FACES --checkpoint NET --judge JUDGE.onnx --out DIR [--targets 60]

FACES holds ``<identity>/<image>``, aligned. The first image of each of the last 60 identities is enrolled. Every
defense protects its embedding by the attacked network; the attacker estimates the embedding from the protected template
and inverts it through the defense (``fast``), with the key and, if there is one, without. A judge compares the
reconstruction with the enrolled image (type I) and with the identity's other images (type II), at thresholds for FMR
1e-2 and 1e-3 that the first images of all other identities fix beforehand. Accuracy and D_sys come from up to eight
images of each of the 60. The attacker learns from the faces of the face prior.

DIR gets a folder of images for every attack, and after every eight targets ``table.json``, ``table.md`` and
``trade_off.png`` of the targets so far. A run resumes after a kill.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from arcinvert.audit.defenses import Defense
from arcinvert.audit.defenses.curve import trade_off
from arcinvert.audit.defenses.sweep import DefenseResult, Outcome, fit_defenses, sweep
from arcinvert.audit.rates import TYPE_I, TYPE_II, Kind, Rate
from arcinvert.evaluation import metrics
from arcinvert.faceprior.prior import FacePrior
from arcinvert.inversion.invert import reduced
from arcinvert.inversion.reconstruct import Settings
from arcinvert.inversion.terms import Term
from arcinvert.inverter import Inverter
from arcinvert.recognizer import Recognizer
from arcinvert.synthesis.job import synthesize
from arcinvert.synthesis.sheets import read_png

FMRS = metrics.FMRS[1:3]
HELD_OUT, PICTURES, CHUNK = 60, 8, 8
TABLE = ["none", "noise:0.1", "truncate:64", "int8", "pq:8", "sign"]
TABLE += ["rotate:17", "biohash:17", "polyprotect:17", "mlphash:17"]


@dataclass(frozen=True, eq=False)
class Judge:
    """A network, its thresholds, and its embeddings of the images of the targets."""

    name: str
    network: Recognizer
    thresholds: dict[float, float]
    enrolled: Tensor
    others: list[Tensor]

    def rates(self, images: Tensor) -> list[Rate]:
        rows = self.network.embed(images)
        first = (rows * self.enrolled[: len(rows)]).sum(1)
        second = torch.cat([other @ row for row, other in zip(rows, self.others[: len(rows)], strict=True)])
        compared: list[tuple[Kind, Tensor]] = [(TYPE_I, first), (TYPE_II, second)]
        return [
            Rate.measured(self.name, kind, fmr, int((scores >= threshold).sum()), len(scores))
            for kind, scores in compared
            for fmr, threshold in self.thresholds.items()
        ]


@dataclass(frozen=True, eq=False)
class Attacker:
    """What the attacker knows who inverts the templates of ``enrolled`` (N, D)."""

    inverter: Inverter
    own: Tensor
    enrolled: Tensor
    out: Path
    seed: int

    def reconstructions(self, defense: Defense, known: bool, count: int) -> Tensor:
        """(count, 3, 112, 112) uint8 reconstructions of the first targets, in folders of :data:`CHUNK` targets."""
        name = defense.spec.replace(":", "_") + ("" if known else "_unknown")
        parts = []
        for start in range(0, count, CHUNK):
            ids = range(start, min(start + CHUNK, len(self.enrolled)))
            enrolled = self.enrolled[ids.start : ids.stop]
            templates = defense.protect(enrolled, ids)
            believed = defense if known else defense.guessed(templates, self.own, self.seed)
            estimate = believed.estimate(templates, self.own)
            parts.append(self._invert(believed, templates, estimate, self.out / name / str(start), name))
            found = (self.inverter.recognizer.embed(parts[-1]) * enrolled).sum(1).mean()
            guess = (estimate * enrolled).sum(1).mean()
            print(f"{name} {start}: cosine of the guess {guess:.3f}, of the reconstruction {found:.3f}", flush=True)
        return torch.cat(parts)

    def _invert(self, believed: Defense, templates: Tensor, estimate: Tensor, folder: Path, name: str) -> Tensor:
        def objective(rows: Sequence[int]) -> Term:
            return believed.term(templates[list(rows)])

        folder.parent.mkdir(exist_ok=True)
        found = synthesize(
            self.inverter,
            estimate,
            folder,
            settings=Settings(seed=self.seed),
            report=False,
            objective=objective,
            objective_name=name,
        )
        print(f"{name}: {sum(row['seconds'] for row in found['results']) / len(estimate):.2f} s a face", flush=True)
        return reduced(torch.stack([read_png(folder / row["file"]) for row in found["results"]])).permute(0, 3, 1, 2)


def pictures(folder: Path, count: int) -> Tensor:
    """(N, 3, 112, 112) uint8."""
    files = sorted(folder.iterdir())[:count]
    return torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])).permute(
        0, 3, 1, 2
    )


def kept(file: Path, make: Callable[[], Tensor]) -> Tensor:
    """The result of ``make``, from ``file`` if an earlier run wrote it."""
    if not file.exists():
        found = make()
        with open(file.with_suffix(".part"), "wb") as stream:
            np.save(stream, found.numpy())
        file.with_suffix(".part").replace(file)
    return torch.from_numpy(np.load(file))


def judge_of(path: Path, targets: Sequence[Path], references: Sequence[Path], out: Path) -> Judge:
    network = Recognizer.load(path)
    name = f"{path.stem}-{network.digest[:12]}"
    rows = kept(
        out / f"references-{name}.npy",
        lambda: torch.cat([network.embed(pictures(folder, 1)) for folder in references]),
    )
    impostor = strangers(rows)
    thresholds = {
        fmr: threshold for fmr in FMRS if (threshold := metrics.threshold_at_fmr(fmr, impostor=impostor)) is not None
    }
    own = [network.embed(pictures(folder, PICTURES)) for folder in targets]
    print(f"{path.stem}: thresholds {thresholds} from {len(impostor)} impostor pairs", flush=True)
    return Judge(path.stem, network, thresholds, torch.stack([rows[0] for rows in own]), [rows[1:] for rows in own])


def strangers(rows: Tensor) -> np.ndarray:
    """The cosine of every pair of rows, all of different identities."""
    first, second = np.triu_indices(len(rows), k=1)
    return (rows @ rows.T).numpy()[first, second]


def embeddings_of_prior(network: Recognizer, prior: FacePrior, count: int) -> Tensor:
    parts = []
    for start in range(0, min(count, len(prior)), 64):
        with torch.no_grad():
            faces = prior.pictures(range(start, min(start + 64, count))).permute(0, 3, 1, 2).float() / 255
        parts.append(network.embed(faces))
    return torch.cat(parts)


def row_of(row: DefenseResult, judge: str) -> str:
    cells = [row.spec if row.key_known else f"{row.spec}, key not known", f"{row.accuracy.eer:.3f}"]
    cells += ["null" if point.tar is None else f"{point.tar:.2f}" for point in row.accuracy.points]
    cells.append(f"{row.linkability.d_sys:.2f} to {row.linkability.highest:.2f} ({row.linkability.chance:.2f})")
    found = [rate for rate in row.rates if rate.judge == judge]
    cells += [f"{rate.rate:.2f} ({rate.low:.2f} to {rate.high:.2f})" for rate in found]
    return "| " + " | ".join(cells) + " |"


def write(rows: Sequence[DefenseResult], judges: Sequence[Judge], count: int, out: Path) -> None:
    """Write table and plot of the first ``count`` targets."""
    table = {"targets": count, "rows": [asdict(row) for row in rows]}
    (out / "table.json").write_text(json.dumps(table, indent=2) + "\n")
    lines = []
    for judge in judges:
        heads = [f"{what} at {fmr:g}" for what in ("type I", "type II") for fmr in judge.thresholds]
        lines += [f"{count} targets, judged by {judge.name}", ""]
        lines += [
            "| defense | EER | TAR at 1e-2 | at 1e-3 | D_sys: mean to highest (chance) | " + " | ".join(heads) + " |"
        ]
        lines += ["|---" * (5 + len(heads)) + "|", *(row_of(row, judge.name) for row in rows), ""]
    (out / "table.md").write_text("\n".join(lines))
    print("\n".join(lines), flush=True)
    trade_off(out / "trade_off.png", rows, judge=judges[0].name, fmr=FMRS[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the attacked network")
    parser.add_argument("--judge", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--defense", action="append", help=f"a defense, may be repeated; default: {' '.join(TABLE)}")
    parser.add_argument("--targets", type=int, default=HELD_OUT, help="attack the first N of the last 60 identities")
    parser.add_argument("--own", type=int, default=7000, help="the attacker learns from N faces of the prior")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_flush_denormal(True)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    folders = sorted(folder for folder in options.data.iterdir() if folder.is_dir())
    targets, references = folders[-HELD_OUT:], folders[:-HELD_OUT]
    inverter = Inverter.load(options.checkpoint, device="cpu")
    attacked, prior = inverter.recognizer, inverter.prior
    embedded = [attacked.embed(pictures(folder, PICTURES)) for folder in targets]
    embeddings = torch.cat(embedded)
    labels = torch.cat([torch.full((len(rows),), number) for number, rows in enumerate(embedded)])
    enrolled = torch.stack([rows[0] for rows in embedded[: options.targets]])
    own = kept(
        out / f"own-{attacked.digest[:12]}-{options.own}.npy", lambda: embeddings_of_prior(attacked, prior, options.own)
    )
    judges = [judge_of(path, targets[: options.targets], references, out) for path in options.judge]
    attacker = Attacker(inverter, own, enrolled, out, options.seed)
    defenses = fit_defenses(options.defense or TABLE, own)
    for count in [*range(CHUNK, options.targets, CHUNK), options.targets]:

        def attack(defense: Defense, known: bool, count: int = count) -> Outcome:
            images = attacker.reconstructions(defense, known, count)
            return Outcome([rate for judge in judges for rate in judge.rates(images)])

        write(sweep(defenses, embeddings, labels, attack), judges, count, out)


if __name__ == "__main__":
    main()
