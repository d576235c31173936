"""A program that opens one FAISS index and hands out its rows: FAISS is C++, and a damaged file may crash its process.

    python faiss_reader.py FILE

It imports nothing of arcinvert. A reply is a line of JSON, and then as many bytes as the line says. The first one
describes the index; each further one answers a line ``START COUNT`` on standard input with rows in float32.
"""

import json
import sys
from typing import Any

FACTS, REFUSED, RAISED = "facts", "refused", "raised"


def open_index(faiss: Any, np: Any, path: str) -> tuple[dict[str, Any], tuple[Any, Any], bool]:
    """What the index is; the index of the rows and its owner; whether it has an inverted file."""
    # FAISS maps the codes of flat indexes into memory, and reads other indexes.
    outer = faiss.read_index(path, faiss.IO_FLAG_READ_ONLY | getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    index, ids = outer, None
    if type(outer).__name__.startswith("IndexIDMap"):
        ids = faiss.vector_to_array(outer.id_map)
        index = faiss.downcast_index(outer.index)
    inner = index
    while type(inner).__name__ == "IndexPreTransform":  # the index behind transformations of the embeddings
        inner = faiss.downcast_index(inner.index)
    inverted = hasattr(inner, "invlists")
    if inverted:
        listed = list_order(faiss, np, inner, int(outer.ntotal))
        ids = listed if ids is None else ids
    facts = {
        "count": int(outer.ntotal),
        "size": int(outer.d),
        "index": type(index).__name__,
        "inner": type(inner).__name__,
        "kept": int(inner.d),
        "ids": ids.tolist() if ids is not None and len(np.unique(ids)) < outer.ntotal else None,
    }
    return facts, (index, outer), inverted


def list_order(faiss: Any, np: Any, index: Any, count: int) -> Any:
    """The ids of an inverted file, ascending; the index then reconstructs rows by positions in this order."""
    if isinstance(index, faiss.IndexIVFFastScan):  # whose reconstruction crashes the process
        raise ValueError(f"an {type(index).__name__} cannot reconstruct its rows")
    lists = index.invlists
    parts, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number in range(lists.nlist):
        size = lists.list_size(number)
        if size:
            parts.append(faiss.rev_swig_ptr(lists.get_ids(number), size).copy())
            places.append((number << 32) | np.arange(size))
    ids = np.concatenate(parts)
    if len(ids) != count:
        raise ValueError(f"it says {count} rows, its inverted file has {len(ids)}")
    order = np.argsort(ids, kind="stable")
    faiss.copy_array_to_vector(np.concatenate(places)[order], index.direct_map.array)
    index.direct_map.type = faiss.DirectMap.Array
    return ids[order]


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
        facts, (index, _owner), inverted = open_index(faiss, np, path)
    except (RuntimeError, MemoryError, ValueError) as error:
        reply(REFUSED, str(error) or type(error).__name__)
        return
    reply(FACTS, facts)
    for line in sys.stdin:
        start, count = map(int, line.split())
        try:
            if inverted:  # reconstruct_n would go by the ids
                rows = index.reconstruct_batch(np.arange(start, start + count))
            else:
                rows = index.reconstruct_n(start, count)
        except (RuntimeError, MemoryError, ValueError) as error:
            reply(RAISED, str(error) or type(error).__name__)
        else:
            reply(FACTS, None, np.ascontiguousarray(rows, "<f4").tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
