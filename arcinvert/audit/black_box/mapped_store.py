"""A store as an open recognizer would have made it, as far as a map can tell."""

from collections.abc import Iterator
from dataclasses import replace

from arcinvert.audit.stores.store import BLOCK, Block, Index, Store
from arcinvert.mapping.linear_map import LinearMap


class MappedStore(Store):
    """The rows of another store, mapped while they are read. A row without a direction is NaN."""

    def __init__(self, store: Store, mapping: LinearMap) -> None:
        self.store, self.mapping = store, mapping
        self.kind, self.name, self.count, self.contents = store.kind, store.name, store.count, store.contents
        self.size = mapping.sizes[1]

    def blocks(self, rows: int = BLOCK) -> Iterator[Block]:
        return map(self._mapped, self.store.blocks(rows))

    def take(self, positions: Index) -> Block:
        return self._mapped(self.store.take(positions))

    def _mapped(self, block: Block) -> Block:
        return replace(block, templates=self.mapping.apply(block.templates))
