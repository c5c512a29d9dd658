"""Stroke families: the meaning of a brush's parameters, its exact rasteriser and its vector outline.

Adding a family takes:

1. A file here with a subclass of ``StrokeFamily``.
2. An instance in ``_FAMILIES``.
3. The name in the Literal of ``Stroke.family`` in ``runtime/params.py``.

Training, export and ``lpaint strokes`` find it there. The contract tests in ``tests/strokes`` run over all families.
"""

import difflib

from lpaint.errors import ParamsError
from lpaint.strokes.bezier import Bezier, OpaqueBezier
from lpaint.strokes.brush import Brush
from lpaint.strokes.circle import Circle
from lpaint.strokes.composite import composite, fit_colour
from lpaint.strokes.family import Parameter, StrokeFamily, pixel_centres
from lpaint.strokes.line import Line
from lpaint.strokes.outline import Outline
from lpaint.strokes.pixel import Pixel
from lpaint.strokes.raster import Rasteriser, exact_rasteriser
from lpaint.strokes.rectangle import Rectangle
from lpaint.strokes.triangle import Triangle

__all__ = [
    "Outline",
    "Parameter",
    "Rasteriser",
    "StrokeFamily",
    "composite",
    "exact_rasteriser",
    "family_names",
    "fit_colour",
    "get_family",
    "pixel_centres",
]

_FAMILIES: dict[str, StrokeFamily] = {
    family.name: family
    for family in (Bezier(), OpaqueBezier(), Brush(), Circle(), Line(), Pixel(), Rectangle(), Triangle())
}


def family_names() -> list[str]:
    """Names of the registered stroke families."""
    return sorted(_FAMILIES)


def get_family(name: str) -> StrokeFamily:
    """The stroke family registered as ``name``.

    Raises:
        ParamsError: there is no such family.
    """
    if name not in _FAMILIES:
        near = difflib.get_close_matches(name, _FAMILIES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(family_names())
        raise ParamsError(f"stroke.family: there is no family {name!r}; {hint}choose one of {known}")
    return _FAMILIES[name]
