"""Tables that become cards on a narrow screen, and lists of facts."""

from collections.abc import Iterable, Sequence

from arcinvert.audit.page.markup import Markup, tag


def cards(caption: object, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table whose first column names the row; on a narrow screen rows are cards that repeat the columns' names."""
    head = tag("tr", *(tag("th", name, scope="col", role="columnheader") for name in columns), role="row")
    body = []
    for first, *rest in rows:
        cells = [
            tag(
                "td",
                tag("span", value, class_="value short" if _short(value) else "value"),
                data_label=name,
                role="cell",
            )
            for name, value in zip(columns[1:], rest, strict=True)
        ]
        body.append(tag("tr", tag("th", first, scope="row", role="rowheader"), *cells, role="row"))
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        class_="cards",
        role="table",
    )


def _short(value: object) -> bool:
    """A figure that is not to be broken over two lines."""
    return not isinstance(value, Markup) and len(str(value)) < 9


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Terms and what is said of them; pairs whose value is None or empty are left out."""
    rows = [tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs if value not in (None, "")]
    return tag("dl", *rows, class_="facts")


def section(title: str, anchor: str, *children: object) -> Markup:
    """A section with its heading, or nothing where there is nothing to say."""
    if all(child is None or child == "" for child in children):
        return Markup()
    return tag("section", tag("h2", title, id=anchor), *children, aria_labeledby=anchor)


def listed(items: Iterable[object], kind: str | None = None) -> Markup | None:
    """A list, or None if there are no items."""
    entries = [tag("li", item) for item in items]
    return tag("ul", *entries, class_=kind) if entries else None


def code(value: object) -> Markup:
    """A name or digest as it is in the store, which may break anywhere."""
    return tag("code", value)
