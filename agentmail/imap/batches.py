"""How much mail one FETCH asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .answers import Fetched

BATCH, BATCH_BYTES = 200, 2 * 2**20
"""Messages and bytes of mail."""


def batches(facts: Iterable[Fetched]) -> Iterable[list[Fetched]]:
    """In order, each small enough for one command; a big message alone."""
    batch: list[Fetched] = []
    size = 0
    for one in facts:
        if batch and (len(batch) >= BATCH or size + (one.size or 0) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size or 0
    if batch:
        yield batch


def is_huge(batch: Sequence[Fetched]) -> bool:
    """Whether it is one message that is bigger than a batch, and comes in pieces."""
    return len(batch) == 1 and (batch[0].size or 0) > BATCH_BYTES
