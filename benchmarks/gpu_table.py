"""The tables of `gpu.py`, of its report alone.

python benchmarks/gpu_table.py benchmarks/results/gpu.json
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def _rows(title: str, *rows: Iterable[str]) -> list[str]:
    columns = title.count("|") - 1
    return [title, "|" + "---|" * columns, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _card(machine: dict[str, Any]) -> str:
    if machine["device"] == "CPU":
        return f"CPU, {machine['threads']} threads, torch {machine['torch']}"
    return (
        f"{machine['device']} ({machine['memory_gb']:.0f} GB), {machine['cores']} CPU cores, torch {machine['torch']}"
    )


def _changes(row: dict[str, Any]) -> str:
    """The network, and what is changed."""
    return ", ".join(filter(None, (row["network"], row.get("variant"), "compiled" if row.get("compiled") else "")))


def _speed(row: dict[str, Any]) -> tuple[str, ...]:
    name = _changes(row)
    if "faces_per_second" not in row:
        reason = row.get("reason", "does not fit into memory")
        return (name, str(row.get("batch", "")), row.get("precision", ""), reason, "", "", "", "")
    peak = "" if row["peak_gb"] is None else f"{row['peak_gb']:.1f}"
    return (
        name,
        str(row["batch"]),
        row["precision"],
        f"{row['faces_per_second']:.1f}",
        f"{row['step_ms']:.1f}",
        f"{row['bare_ms']:.1f}",
        f"{row['ratio']:.2f}, {row['ratio_own']:.2f}",
        peak,
    )


def table(report: dict[str, Any]) -> str:
    """Markdown of what the report has."""
    lines = [_card(report["machine"]), ""]
    if (found := report.get("parity")) is not None:
        cpu = ", ".join(f"{c:.4f}" for c in found["cosine_cpu"])
        rows = [("CPU", cpu, "", "", "", f"{found['seconds_cpu']:.1f}")]
        for kind in ("float32", "tf32"):
            one = found[kind]
            cosines = ", ".join(f"{c:.4f}" for c in one["cosine"])
            same = (
                f"{one['difference']:.1e}",
                f"{one['mean_pixel_difference']:.2f}",
                f"{one['embedding_difference']:.1e}",
            )
            rows.append((f"device, {kind}", cosines, *same, f"{one['seconds']:.1f}"))
        lines += _rows(
            "| same targets and seed | own cosine | apart | pixels apart (of 255) | embeddings apart | seconds |", *rows
        )
    if report.get("precisions"):
        rows = [
            (r["precision"], f"{r['cosine']:.4f}", f"{r['least']:.4f}", f"{r['faces_per_second']:.1f}")
            for r in report["precisions"]
        ]
        lines += _rows(
            f"| precision, {report['precisions'][0]['images']} images | own cosine | least | faces/s |", *rows
        )
    compiled = [part for part in report if part.startswith("compile_")]
    parts = ("default", "low_precision", "large", "variants", *compiled)
    speeds = [row for part in parts for row in report.get(part, ())]
    if speeds:
        title = "| network | batch | precision | faces/s | ms a step | ms bare | step / bare: whole, own | peak GB |"
        lines += _rows(title, *map(_speed, speeds))
    gains = [row for row in speeds if "gain" in row]
    if gains:
        rows = [
            (
                _changes(r),
                f"{r['plain_step_ms']:.1f}",
                f"{r['step_ms']:.1f}",
                f"{r['gain']:.2f}",
                f"{r['start_seconds']:.0f}" if "start_seconds" in r else "",
                ", ".join(f"{cosine:.4f}" for cosine in r.get("cosine", ())),
            )
            for r in gains
        ]
        title = "| changed | ms a step without | with | times as fast | seconds to start | own cosine |"
        lines += _rows(title, *rows)
    if report.get("graphs"):
        rows = [
            (
                f"{r['network']}, batch {r['batch']}, {r['precision']}",
                f"{r['loop_ms']:.2f}",
                f"{r['without_waiting_ms']:.2f}",
                f"{r['graph_ms']:.2f}" if "graph_ms" in r else r["reason"],
                f"{r['gain']:.2f}" if "gain" in r else "",
            )
            for r in report["graphs"]
        ]
        lines += _rows("| own step | ms in the loop | ms without waiting | ms as a CUDA graph | loop / graph |", *rows)
    if (found := report.get("training")) is not None:
        names = [name for name in found if name not in ("backbone", "batch", "amp", "loss")]
        title = f"| training, {found['backbone']}, batch {found['batch']}, {found['amp']} | images/s |"
        lines += _rows(title, *((name.replace("_", " "), f"{found[name]:.0f}") for name in names))
    if (found := report.get("tests")) is not None:
        lines += [f"Tests marked gpu: {found['summary']}", ""]
    lines += [f"{name}: {reason}" for name, reason in report["failed"].items()]
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
