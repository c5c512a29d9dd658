"""lpaint: teach a machine to paint, and paint with what it learnt."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpaint.api import Artwork, Painter, Stroke

__version__ = "0.1.0"
__all__ = ["Artwork", "Painter", "Stroke", "__version__"]


def __getattr__(name: str) -> Any:
    # The command line must be able to say its version without loading ONNX Runtime.
    if name in ("Artwork", "Painter", "Stroke"):
        from lpaint import api

        return getattr(api, name)
    raise AttributeError(f"module 'lpaint' has no attribute {name!r}")
