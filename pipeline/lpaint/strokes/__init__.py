"""Stroke families: what a brush's numbers mean and how they become paint.

Adding a family is one file and one line in ``_FAMILIES``.
"""

from lpaint.errors import ParamsError
from lpaint.strokes.bezier import Bezier
from lpaint.strokes.composite import composite
from lpaint.strokes.family import StrokeFamily, pixel_centres

__all__ = ["StrokeFamily", "composite", "family_names", "get_family", "pixel_centres"]

_FAMILIES: dict[str, StrokeFamily] = {family.name: family for family in (Bezier(),)}


def family_names() -> list[str]:
    """Names of the registered stroke families."""
    return sorted(_FAMILIES)


def get_family(name: str) -> StrokeFamily:
    """The stroke family registered as ``name``.

    Raises:
        ParamsError: there is no such family.
    """
    if name not in _FAMILIES:
        raise ParamsError(f"stroke.family: there is no family {name!r}; choose one of {', '.join(family_names())}")
    return _FAMILIES[name]
