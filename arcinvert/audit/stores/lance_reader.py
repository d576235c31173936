"""A program that opens one Lance table and hands out its rows: a damaged file may crash or panic its native library.

    python lance_reader.py FOLDER TABLE

It imports nothing of arcinvert. Requests are lines of JSON on standard input. A reply is a line of JSON, and then as
many bytes as the line says: Arrow batches with their schema.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

REPLY, END, REFUSED = "reply", "end", "refused"


def reply(kind: str, value: Any = None, content: bytes = b"") -> None:
    """Write one reply."""
    sys.stdout.buffer.write(json.dumps({"kind": kind, "value": value, "bytes": len(content)}).encode() + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def answer(pa: Any, opened: Callable[[], Any], scans: dict[int, Any], asked: dict[str, Any]) -> None:
    """Answer one request of the newest version: a scan's next batch, the end of a scan, or single rows."""
    number = asked["scan"]
    if asked.get("close"):
        scans.pop(number, None)
        return
    if "offsets" in asked:
        batches = iter(opened().take_offsets(asked["offsets"]).select(asked["columns"]).to_arrow().to_batches())
        found = [batch.select(asked["columns"]) for batch in batches]
    else:
        if number not in scans:
            query = opened().search().select(asked["columns"])
            query = query if asked["limit"] is None else query.limit(asked["limit"])
            scans[number] = iter(query.to_batches(asked["rows"]))
        found = [batch.select(asked["columns"]) for batch in [next(scans[number], None)] if batch is not None]
    if not found:
        reply(END)
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found[0].schema) as stream:
        for batch in found:
            stream.write_batch(batch)
    reply(REPLY, None, sink.getvalue().to_pybytes())


def main(folder: str, name: str) -> None:
    """Describe the table, then answer until standard input ends."""
    lancedb, pa = import_module("lancedb"), import_module("pyarrow")
    scans: dict[int, Any] = {}

    def opened() -> Any:
        return lancedb.connect(folder).open_table(name)

    try:
        table = opened()
        reply(REPLY, int(table.count_rows()), table.schema.serialize().to_pybytes())
    except BaseException as error:  # a panic of native code is no Exception
        reply(REFUSED, str(error) or type(error).__name__)
        return
    for line in sys.stdin:
        try:
            answer(pa, opened, scans, json.loads(line))
        except BaseException as error:
            reply(REFUSED, str(error) or type(error).__name__)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
