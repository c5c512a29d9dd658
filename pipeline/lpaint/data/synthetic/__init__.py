"""Generated images: stylised portraits, dead leaves and landscapes, deterministic by seed and index."""

from lpaint.data.synthetic.scenes import VERSION, draw

__all__ = ["VERSION", "draw"]
