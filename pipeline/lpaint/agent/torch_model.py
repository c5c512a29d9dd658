"""A trained actor as the painter sees it: weights from disk, and the painting interface over torch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpaint.agent.networks import Actor
from lpaint.strokes import StrokeFamily, get_family
from lpaint.training.device import Compute
from lpaint.training.weights import load_weights


def build_actor(settings: dict[str, Any]) -> Actor:
    """A fresh actor of the kind that ``settings`` describe.

    They give canvas, bundle, family, width, head and blocks, and, since they were added, norm and counts_steps.
    """
    family = get_family(settings["family"])
    sizes = (settings["canvas"], settings["bundle"], family.parameters, settings["width"])
    kind = (settings["head"], settings["blocks"], settings.get("norm", "batch"), settings.get("counts_steps", True))
    return Actor(*sizes, *kind)


def load_actor(path: Path) -> tuple[Actor, dict[str, Any]]:
    """The trained actor in ``path``, in evaluation mode, and its settings.

    Raises:
        ModelError: the file is missing or no actor's.
    """
    state, settings = load_weights(path, "train_agent")
    actor = build_actor(settings)
    actor.load_state_dict(state)
    return actor.eval(), settings


class TorchPaintingModel:
    """An actor and the exact rasteriser behind the painter's interface (numpy in, numpy out).

    ``actor`` is switched to evaluation mode by its owner; ``settings`` gives canvas, bundle, max_steps, zoom,
    fit_colours, start and protocol (``search`` where older weights do not say).
    """

    def __init__(self, actor: Actor, settings: dict[str, Any], compute: Compute) -> None:
        self.family: StrokeFamily = get_family(settings["family"])
        self.canvas: int = settings["canvas"]
        self.bundle: int = settings["bundle"]
        self.max_steps: int = settings["max_steps"]
        self.zoom: tuple[int, ...] = tuple(settings["zoom"])
        self.overhang = self.family.overhang
        self.fits_colours: bool = settings["fit_colours"] != "never"
        self.initial_canvas: str = settings["start"]
        self.protocol: str = settings.get("protocol", "search")
        self._actor, self._compute = actor.to(compute.torch_device), compute

    @torch.no_grad()
    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Strokes [B, bundle, parameters] for canvas and target [B, 3, S, S] in [0, 1] and fraction [B]."""
        with self._compute.autocast():
            strokes = self._actor(*map(self._tensor, (canvas, target, fraction)))
        return strokes.float().cpu().numpy()

    @torch.no_grad()
    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        """Opacity [N, H, W] of shapes [N, shape_parameters]; see ``StrokeFamily.rasterise``."""
        return self.family.rasterise(*map(self._tensor, (shape, rows, columns, pixel_size))).cpu().numpy()

    @torch.no_grad()
    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] of shapes [N, shape_parameters]; see ``StrokeFamily.bounds``."""
        return self.family.bounds(self._tensor(shape)).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._compute.device)
