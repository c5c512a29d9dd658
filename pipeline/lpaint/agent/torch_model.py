"""A trained actor: loading its weights, and painting with it in torch."""

from pathlib import Path

import numpy as np
import torch

from lpaint.agent.networks import Actor
from lpaint.painting.actor_spec import ActorSpec, PaintingSpec
from lpaint.strokes import StrokeFamily, get_family
from lpaint.training.device import Compute
from lpaint.training.weights import load_weights, save_weights


def build_actor(spec: ActorSpec) -> Actor:
    """A fresh actor of ``spec``'s architecture."""
    parameters = get_family(spec.family).parameters
    sizes = (spec.canvas, spec.bundle, parameters, spec.width)
    return Actor(*sizes, spec.head, spec.blocks, spec.norm, spec.counts_steps)


def save_actor(path: Path, actor: Actor, spec: ActorSpec) -> None:
    """Write the weights of ``actor`` and its ``spec`` to ``path``, atomically."""
    save_weights(path, actor, spec.to_settings())


def load_actor(path: Path) -> tuple[Actor, ActorSpec]:
    """The trained actor in ``path``, in evaluation mode, and its spec.

    Raises:
        ModelError: the file is missing or is not an actor's.
    """
    state, settings = load_weights(path, "train_agent")
    spec = ActorSpec.from_settings(settings, path)
    actor = build_actor(spec)
    actor.load_state_dict(state)
    return actor.eval(), spec


class TorchPaintingModel:
    """``PaintingModel`` in torch: an actor and the exact rasteriser, with numpy arrays in and out.

    The caller puts ``actor`` into evaluation mode.
    """

    def __init__(self, actor: Actor, spec: PaintingSpec, compute: Compute) -> None:
        self.family: StrokeFamily = get_family(spec.family)
        self.canvas, self.bundle, self.max_steps = spec.canvas, spec.bundle, spec.max_steps
        self.zoom = spec.zoom
        self.overhang = self.family.overhang
        self.fits_colours = spec.fit_colours != "never"
        self.initial_canvas = spec.initial_canvas
        self.protocol = spec.protocol
        self._actor, self._compute = actor.to(compute.torch_device), compute

    @torch.no_grad()
    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Strokes [B, bundle, parameters] for canvas and target [B, 3, S, S] in [0, 1] and fraction [B]."""
        with self._compute.autocast():
            strokes = self._actor(*map(self._tensor, (canvas, target, fraction)))
        return strokes.float().cpu().numpy()

    @torch.no_grad()
    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        """Opacity [N, H, W] of shapes [N, shape_parameters]; arguments as in ``StrokeFamily.rasterise``."""
        return self.family.rasterise(*map(self._tensor, (shape, rows, columns, pixel_size))).cpu().numpy()

    @torch.no_grad()
    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] (top, left, bottom, right) of shapes [N, shape_parameters]."""
        return self.family.bounds(self._tensor(shape)).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(self._compute.device)
