"""The help of every command: panels by subject, defaults, and examples at the foot, as wide as the terminal.

A command gives its examples in its docstring, under ``Examples:``, one a line and indented. An option finds its panel
by its name in :data:`PANELS`, a command of the first level in :data:`SUBJECTS`; so one name is one thing everywhere.
"""

import inspect
import io
import re
import shutil
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

MARK = "\nExamples:\n"
REST = "Options"
"""Panel of what no table names."""
SUBJECTS = {
    "Embeddings to faces": ("synth", "embed", "presets", "app"),
    "What a store leaks": ("audit", "audit diff", "audit canary", "audit membership", "audit map", "convert", "faces"),
    "Recognizers": ("checkpoint", "calibrate", "train", "purify"),
    "Images": ("align", "data"),
    "Evaluation": ("eval", "plot"),
    "This installation": ("doctor", "schema"),
}
"""Panel -> commands of the first level."""
PANELS = {
    "Source": (
        "embedding", "photo", "store", "row", "identity", "array", "aligned", "kind", "table", "column",
        "identity-table", "numbers", "size", "header", "group", "photos",
    ),
    "Images and embeddings": (
        "data", "embeddings", "labels", "pairs", "bin", "gallery", "gallery-labels", "probes", "probe-labels",
        "distractors", "templates", "galleries", "queries", "query-labels", "videos", "video-labels", "centers",
        "faces", "held-out", "clean-list", "true-labels", "detector", "face", "gray-bits", "strict", "flip", "scores",
        "adapter", "all-faces", "each", "people", "pictures", "nonmembers",
    ),
    "Face": ("variations", "pose", "expression", "light", "vary", "alike", "min-cosine", "retries"),
    "Attack": ("sample", "restarts", "preset", "steps", "objective", "defense", "sweep"),
    "Judges": ("judge", "calibration-faces", "threshold", "allow-synthetic-thresholds"),
    "Black box and migration": ("through", "from-pairs", "to", "map"),
    "Canaries": ("key", "copy", "count", "names", "decoys"),
    "Training": ("config", "label-noise", "stream", "dry-run", "save-every", "angle"),
    "Image contract": ("color", "mean", "std", "crop"),
    "Measurement": (
        "far", "max-rank", "top", "engine", "features", "weights", "reference", "scale", "name",
    ),
    "Download": ("revision", "sha256", "file"),
    "Page": ("port", "root", "browser"),
    "Output": (
        "out", "image-size", "report", "record", "force", "show-faces", "authorization", "fail-over", "schema", "json",
        "tensorboard", "license", "dominant", "shard", "fold", "c2pa-certificate", "c2pa-key",
    ),
    "Recognizer and computation": ("checkpoint", "device", "seed", "batch-size", "precision", "compile"),
    "Help and messages": ("help", "quiet", "debug", "version", "install-completion", "show-completion"),
}  # fmt: skip
"""Panel -> options, by their long name, of all commands."""
_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}


def with_panels(command: Any) -> Any:
    """The command of Typer, and all below it, with this help in place of Typer's own."""
    text = inspect.cleandoc(command.help or "")
    command.help, _, examples = text.partition(MARK)
    command.epilog = inspect.cleandoc(examples) or None
    command.short_help = summary(command)
    command.get_help = partial(_render, command)
    for below in getattr(command, "commands", {}).values():
        with_panels(below)
    return command


def summary(command: Any) -> str:
    """The first paragraph of a command's help, uncut."""
    return " ".join((command.help or "").split("\n\n")[0].split())


def examples(command: Any) -> list[str]:
    """The examples of a command, each one line of a shell."""
    return (command.epilog or "").splitlines()


def panel_of(parameter: Any) -> str:
    """The panel of an option."""
    return _PANEL_OF.get(long_name(parameter), REST)


def long_name(parameter: Any) -> str:
    """The name by which an option is known, such as ``batch-size``."""
    names = [name for name in parameter.opts if name.startswith("--")]
    return (names[0] if names else str(parameter.name)).lstrip("-")


def _render(command: Any, context: Any) -> str:
    from rich.console import Console

    terminal = bool(sys.stdout and sys.stderr and sys.stdout.isatty() and sys.stderr.isatty())
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=max(shutil.get_terminal_size((100, 24)).columns, 40),
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(command.get_usage(context), style="bold")
    for paragraph in (command.help or "").split("\n\n"):
        console.print()
        console.print(" ".join(paragraph.split()))
    console.print()
    for title, rows in _panels(command, context).items():
        _print_panel(console, title, rows)
    if command.epilog:
        console.print("\nExamples:", style="bold")
        for line in examples(command):
            console.print(f"  {line}", soft_wrap=True)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written.rstrip("\n")


def _panels(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Title -> rows of a name and its help, in the order of the tables."""
    found: dict[str, list[tuple[str, str]]] = {}
    below = {name: part for name, part in getattr(command, "commands", {}).items() if not part.hidden}
    first = context.parent is None
    subjects = {name: subject for subject, names in SUBJECTS.items() for name in names} if first else {}
    for subject in [*SUBJECTS, "Commands"]:
        names = [name for name in (SUBJECTS.get(subject, ()) if first else ()) if name in below]
        names += [name for name in below if subjects.get(name, "Commands") == subject and name not in names]
        rows = [(name, below[name].short_help) for name in names]
        found |= {subject: rows} if rows else {}
    records = [(part, _record(part, context)) for part in command.get_params(context)]
    arguments = [record for part, record in records if record and part.param_type_name == "argument"]
    found |= {"Arguments": arguments} if arguments else {}
    for panel in [*list(PANELS)[:-1], REST, list(PANELS)[-1]]:
        rows = [r for part, r in records if r and part.param_type_name != "argument" and panel_of(part) == panel]
        found |= {panel: rows} if rows else {}
    return found


def _record(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Name and help, ``<list[Path]>`` as ``<path>...``."""
    found = parameter.get_help_record(context)
    if found is None:
        return None
    return re.sub(r"<list\[(\w+)\]>", lambda kind: f"<{kind[1].lower()}>...", found[0]), found[1]


def _print_panel(console: "Console", title: str, rows: list[tuple[str, str]]) -> None:
    from rich import box
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=max(console.width * 2 // 5, 16), style="cyan", overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    table.expand = True
    for name, text in rows:
        about = Text(text)
        about.highlight_regex(r"\[[^\[\]]*\]$", "dim")  # default, environment variable, required
        table.add_row(Text(name), about)
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    lines = box.ROUNDED if encoding.startswith("utf") else box.ASCII
    console.print(Panel(table, title=title, title_align="left", box=lines, border_style="dim"))
