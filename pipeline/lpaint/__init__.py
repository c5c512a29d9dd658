"""lpaint: teach a machine to paint, and paint with what it learnt."""

__version__ = "0.1.0"
