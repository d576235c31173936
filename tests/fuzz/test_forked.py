from pathlib import Path

import pytest
from forked import Forked

from arcinvert.audit.stores import child
from arcinvert.errors import InputError

PROGRAM = """
import json, os, sys

def main(what):
    if what == "dies":
        os.abort()
    for line in sys.stdin:
        print(json.dumps({"kind": what, "value": [os.getpid(), line.strip()], "bytes": 0}), flush=True)
"""


def test_a_process_reads_files_until_one_kills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("subprocess", "resource", "threading"):
        monkeypatch.setattr(child, name, getattr(child, name))  # as they were, afterwards
    forked = Forked(("json",))
    forked.stand_in(child)
    program = tmp_path / "reader.py"
    program.write_text(PROGRAM)

    def ask(what: str) -> int:
        reader = child.Child(str(program), [what], what, 1 << 30, 10)
        reader.send("row 3")
        kind, (pid, line), _ = reader.reply()
        assert (kind, line) == (what, "row 3")
        return pid

    first = ask("a")
    assert ask("b") == first
    dead = child.Child(str(program), ["dies"], "dies", 1 << 30, 10)
    with pytest.raises(InputError, match="dies cannot be read: it ends the process"):
        dead.reply()
    dead.send("row 3")  # what is sent to it is lost, as by a process that has ended
    assert ask("c") != first
    forked.close()
