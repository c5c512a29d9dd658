"""Damage done to files: what hypothesis draws, and how much of it."""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# `LPAINT_EXAMPLES=200 pytest tests/test_fuzz*.py` tries harder.
EXAMPLES = int(os.environ.get("LPAINT_EXAMPLES", "60"))
QUICK = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SLOW = settings(QUICK, max_examples=max(1, EXAMPLES * 2 // 5))
Damage = list[tuple[float, int]]
damage = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12)
cut = st.floats(0, 1)


def mutated(content: bytes, damage: Damage, cut: float) -> bytes:
    """Some bytes replaced, and mostly something cut off the end."""
    changed = bytearray(content)
    for place, value in damage:
        changed[min(len(changed) - 1, int(place * len(changed)))] = value
    return bytes(changed[: max(1, int(len(changed) * min(1, cut * 1.5)))])
