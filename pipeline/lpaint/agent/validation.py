"""Validation of an actor during its training."""

import numpy as np
import torch
from tqdm import tqdm

from lpaint.agent.networks import Actor
from lpaint.agent.state import TrainState
from lpaint.agent.torch_model import TorchPaintingModel
from lpaint.data.dataset import PreparedData
from lpaint.metrics import l2, psnr, reward
from lpaint.painting.actor_spec import ActorSpec
from lpaint.painting.engine.search import paint
from lpaint.plots import sheet
from lpaint.runtime.messages import notify
from lpaint.runtime.params import Params
from lpaint.tracking import Tracker
from lpaint.training.device import Compute, peak_memory

_SHOWN_IMAGES = 8


class Validator:
    """Paints the first images of the validation split, measures the paintings, and logs the results.

    Args:
        params: ``agent.validation`` gives the number of images and the stroke budget.
        data: the prepared images.
        spec: the actor's settings.
        compute: device and precision.
        tracker: receives metrics and a sheet of paintings.

    Attributes:
        targets: the validation images [N, 3, P, P], float32 in [0, 1].
    """

    def __init__(self, params: Params, data: PreparedData, spec: ActorSpec, compute: Compute, tracker: Tracker) -> None:
        self.params, self.spec, self.compute, self.tracker = params, spec, compute, tracker
        rows = data.split("validation")[: params.agent.validation.images]
        self.targets = np.ascontiguousarray(data.images[rows].transpose(0, 3, 1, 2), dtype=np.float32) / 255

    @torch.no_grad()
    def run(self, actor: Actor, progress: TrainState) -> dict[str, float]:
        """Validate ``actor``, which is put into evaluation mode; returns the row that it adds to ``progress.curve``."""
        model = TorchPaintingModel(actor.eval(), self.spec, self.compute)
        budget, targets = self.params.validation_strokes, self.targets
        # Effort 1 is the fastest, and ranks actors as higher efforts do.
        canvas = paint(model, targets, [budget], effort=1).snapshots[budget]
        row = {
            "update": progress.update,
            "transitions": progress.transitions,
            "samples": progress.update * self.params.agent.batch_size,
            "seconds": progress.seconds,
            "peak_memory_mib": round(peak_memory(), 1),
            "l2": float(l2(canvas, targets).mean()),
            "psnr": float(psnr(canvas, targets).mean()),
            "reward": float(reward(canvas, targets).mean()),
        }
        progress.curve.append(row)
        metrics = {f"validation/{name}": row[name] for name in ("l2", "psnr", "reward")}
        charts = {f"charts/{name}": row[name] for name in ("seconds", "transitions", "peak_memory_mib")}
        self.tracker.log_metrics(metrics | charts, progress.update)
        shown = sheet([list(targets[:_SHOWN_IMAGES]), list(canvas[:_SHOWN_IMAGES])])
        self.tracker.log_image("validation", shown, progress.update)
        notify(
            f"update {row['update']}: L2 {row['l2']:.5f}, reward {row['reward']:.4f} at {budget} strokes, "
            f"{row['seconds']:.0f} s",
            tqdm.write,
        )
        return row
