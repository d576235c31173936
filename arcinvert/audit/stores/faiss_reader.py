"""A program that opens one FAISS index and hands out its rows: FAISS is C++, and a damaged file may crash its process.

    python faiss_reader.py FILE

It imports nothing of arcinvert. A reply is a line of JSON, and then as many bytes as the line says. The first one
describes the index; each further one answers a line ``START COUNT`` on standard input with rows in float32.
"""

import json
import sys
from typing import Any

FACTS, REFUSED, RAISED = "facts", "refused", "raised"


def open_index(faiss: Any, np: Any, path: str) -> tuple[dict[str, Any], tuple[Any, Any], Any]:
    """What the index is; the index of the rows and its owner; the ids of an inverted file if they are no positions."""
    # FAISS maps the codes of flat indexes into memory, and reads other indexes.
    outer = faiss.read_index(path, faiss.IO_FLAG_READ_ONLY | getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    index, ids, order = outer, None, None
    if type(outer).__name__.startswith("IndexIDMap"):
        ids = faiss.vector_to_array(outer.id_map)
        index = faiss.downcast_index(outer.index)
    inner = index
    while type(inner).__name__ == "IndexPreTransform":  # the index behind transformations of the embeddings
        inner = faiss.downcast_index(inner.index)
    if hasattr(inner, "invlists"):
        order = list_order(faiss, np, inner, int(outer.ntotal))
    facts = {
        "count": int(outer.ntotal),
        "size": int(outer.d),
        "index": type(index).__name__,
        "inner": type(inner).__name__,
        "kept": int(inner.d),
        "ids": ids.tolist() if ids is not None and len(np.unique(ids)) < outer.ntotal else None,
    }
    return facts, (index, outer), order


def list_order(faiss: Any, np: Any, index: Any, count: int) -> Any:
    """The ids of an inverted file in order, after which it can reconstruct rows; None if they are 0, 1, 2, ..."""
    lists = index.invlists
    parts = [np.empty(0, np.int64)]
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if size:
            parts.append(faiss.rev_swig_ptr(lists.get_ids(number), size).copy())
    ids = np.sort(np.concatenate(parts))
    if len(ids) != count or (np.diff(ids) < 1).any():
        raise ValueError("it has an inverted file with missing or repeated ids")
    plain = bool(not count or (ids[0] == 0 and ids[-1] == count - 1))
    index.set_direct_map_type(faiss.DirectMap.Array if plain else faiss.DirectMap.Hashtable)
    return None if plain else ids


def reply(kind: str, value: Any, content: bytes = b"") -> None:
    """Write one reply."""
    sys.stdout.buffer.write(json.dumps({"kind": kind, "value": value, "bytes": len(content)}).encode() + b"\n")
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def main(path: str) -> None:
    """Describe the index, then answer until standard input ends."""
    import faiss
    import numpy as np

    try:
        facts, (index, _owner), order = open_index(faiss, np, path)
    except (RuntimeError, MemoryError, ValueError) as error:
        reply(REFUSED, str(error) or type(error).__name__)
        return
    reply(FACTS, facts)
    for line in sys.stdin:
        start, count = map(int, line.split())
        try:
            rows = (
                index.reconstruct_n(start, count) if order is None else index.reconstruct_batch(order[start:][:count])
            )
        except (RuntimeError, MemoryError, ValueError) as error:
            reply(RAISED, str(error) or type(error).__name__)
        else:
            reply(FACTS, None, np.ascontiguousarray(rows, "<f4").tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
