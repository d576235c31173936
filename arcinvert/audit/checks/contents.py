"""Findings about what a store holds beside the embeddings: faces, names, paths; and how it keeps the embeddings."""

import re
from collections.abc import Mapping

from arcinvert.audit.checks.finding import Finding
from arcinvert.audit.stores.columns import listed
from arcinvert.audit.stores.store import Store

PERSONAL = re.compile(
    r"(?:full_?|first_?|last_?|user_?|sur)?name|identity|person|e?mail|phone|address|birth\w*|ssn", re.I
)
IMAGE = re.compile(
    r"(?:face|image|img|photo|picture|crop|thumb(?:nail)?|jpe?g|png)(?:_(?:bytes|blob|data|crop))?", re.I
)
PATH = re.compile(r"\w*(?:path|file|filename|url|uri|img_name)", re.I)
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def contents_findings(store: Store) -> list[Finding]:
    """What an opened store reveals before any row is read."""
    contents, found = store.contents, []
    images, personal, paths = [], [], []
    for column, value in contents.columns.items():
        if isinstance(value, Mapping):  # an image as Hugging Face writes it: {bytes, path}
            value = value.get("bytes")
        encoded = isinstance(value, bytes | bytearray | memoryview) and bytes(value[:8]).startswith(MAGIC)
        if encoded or (IMAGE.fullmatch(column) and not isinstance(value, int | float)):
            images.append(column)
        elif PERSONAL.fullmatch(column) or column == contents.identity:
            personal.append(column)
        elif PATH.fullmatch(column):
            paths.append(column)
    if images:
        text = f"there are face images beside the embeddings: {listed(images)}"
        found.append(Finding("faces", "problem", text, len(images)))
    if personal:
        text = f"columns beside the embeddings name the people: {listed(personal)}"
        found.append(Finding("names", "warning", text, len(personal)))
    if contents.label_file is not None:
        found.append(Finding("names", "info", f"the file {contents.label_file!r} names the people", 1))
    if paths:
        text = f"columns beside the embeddings hold paths of files: {listed(paths)}"
        found.append(Finding("paths", "warning", text, len(paths)))
    if contents.tables:
        text = f"the database has other tables: {listed(contents.tables)}"
        found.append(Finding("tables", "info", text, len(contents.tables)))
    found += [Finding("unread", "warning", reason, 1) for reason in contents.unread.values()]
    if contents.quantization is not None:
        found.append(Finding("quantized", "info", f"lossy quantization: {contents.quantization}", store.count))
    if contents.normalized_on_load:
        found.append(
            Finding("distance", "info", "the database normalizes these vectors when it loads them", store.count)
        )
    return found
