"""Target images of the agent: crops of the packed images, on the device and at the size of its canvas."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.replay import View


def place_images(images: np.ndarray, device: torch.device) -> Tensor:
    """The packed images [N, P, P, 3] uint8 as a tensor: on the GPU if they fit there, else where they are.

    A memory map stays on the disk: the CPU cuts crops from it and sends only these to the device.
    """
    resident = device.type == "cuda" and fits_on_gpu(images.nbytes, torch.cuda.mem_get_info(device)[0])
    return torch.from_numpy(images).to(device if resident else "cpu")


def fits_on_gpu(needed: int, free: int) -> bool:
    """Whether ``needed`` bytes of images fit into ``free`` bytes of a GPU; half stays free for networks and replay."""
    return needed <= free // 2


def placement(images: Tensor) -> str:
    """Where training reads ``images`` from, for messages."""
    return "resident on the GPU" if images.is_cuda else "read through a memory map"


class TargetSampler:
    """Samples crops of a split's images and cuts them as targets on the device.

    Args:
        images: [N, P, P, 3] uint8, as ``place_images`` gives them: a memory map on the CPU, or resident on the GPU.
        rows: [M] int64, the rows of ``images`` that belong to the split.
        canvas: side S of the agent's canvas in pixels.
        zoom: the scales; scale d has crops of side P // d.
        device: where targets go.
    """

    def __init__(self, images: Tensor, rows: Tensor, canvas: int, zoom: list[int], device: torch.device) -> None:
        self.images = images
        self.rows = rows.to(device)
        self.canvas, self.device = canvas, device
        self.sides = [images.shape[1] // scale for scale in zoom]

    def sample_images(self, count: int, flip: bool, generator: torch.Generator) -> View:
        """Views of ``count`` random whole images, half of them mirrored if ``flip``."""
        pick = torch.randint(len(self.rows), (count,), generator=generator, device=self.device)
        mirrored = torch.rand(count, generator=generator, device=self.device) < (0.5 if flip else 0.0)
        zero = torch.zeros(count, dtype=torch.int64, device=self.device)
        return View(self.rows[pick], zero, zero, zero, mirrored)

    def zoom_in(
        self, view: View, canvas: Tensor, level: int, generator: torch.Generator, error: Tensor | None = None
    ) -> tuple[View, Tensor]:
        """Random crops at the next ``level``, and the crops of the canvases, scaled to [B, 3, S, S].

        Args:
            view, canvas: the views now, and their canvases [B, 3, S, S].
            level: index of the next scale.
            generator: draws the crops.
            error: [B, S, S], the error of each canvas pixel; a crop's probability is proportional to its error. None
                draws crops uniformly.
        """
        parent, side, size = self.sides[level - 1], self.sides[level], self.canvas
        window = size * side // parent
        # Corners lie on canvas pixels, so that canvas and target get the same crop.
        if error is None:
            corner = torch.randint(size - window + 1, (2, len(canvas)), generator=generator, device=self.device)
        else:
            # NaN errors are skipped here; check_weights reports them with the update number.
            probability = F.avg_pool2d(error.nan_to_num()[:, None], window, stride=1).flatten(1) + 1e-12
            index = torch.multinomial(probability, 1, generator=generator)[:, 0]
            corners = size - window + 1
            corner = torch.stack([index // corners, index % corners])
        offset = corner * parent // size
        steps = torch.arange(window, device=self.device)
        batch = torch.arange(len(canvas), device=self.device)[:, None, None]
        rows, columns = corner[0, :, None] + steps, corner[1, :, None] + steps
        crop = canvas.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        levels = torch.full_like(view.level, level)
        return View(view.image, view.top + offset[0], view.left + offset[1], levels, view.flip), self._fit(crop)

    def load_targets(self, view: View) -> Tensor:
        """The crops of ``view`` [B] at canvas size: [B, 3, S, S] in [0, 1]."""
        if self.images.is_cuda:
            return self._load_without_sync(view)
        # Crops are cut where the images are, so that only the crops are sent.
        view = view.to(self.images.device)
        out = torch.empty(len(view.image), 3, self.canvas, self.canvas, device=self.device)
        for level, side in enumerate(self.sides):
            chosen = torch.nonzero(view.level == level).squeeze(1)
            if len(chosen):
                out[chosen.to(self.device)] = self._fit(self._crop(view[chosen], side))
        return out

    def _load_without_sync(self, view: View) -> Tensor:
        """``load_targets`` for a GPU: selecting the views of one level would wait for the device.

        Every view is cut at every level; at the wrong levels it is cut from the image's corner and discarded.
        """
        out = torch.zeros(len(view.image), 3, self.canvas, self.canvas, device=self.device)
        for level, side in enumerate(self.sides):
            chosen = view.level == level
            placed = View(view.image, view.top * chosen, view.left * chosen, view.level, view.flip)
            out = torch.where(chosen[:, None, None, None], self._fit(self._crop(placed, side)), out)
        return out

    def _crop(self, view: View, side: int) -> Tensor:
        steps = torch.arange(side, device=self.images.device)
        rows, columns = view.top[:, None] + steps, view.left[:, None] + steps
        # The corner of a crop is in mirrored coordinates, counted from the right edge of the image.
        columns = torch.where(view.flip[:, None], self.images.shape[2] - 1 - columns, columns)
        crop = self.images[view.image[:, None, None], rows[:, :, None], columns[:, None, :]]
        if self.device.type == "cuda" and not crop.is_cuda:
            crop = crop.pin_memory().to(self.device, non_blocking=True)
        return crop.permute(0, 3, 1, 2).float() / 255

    def _fit(self, image: Tensor) -> Tensor:
        """Scale images to the size of the canvas."""
        if image.shape[-1] == self.canvas:
            return image
        mode = "area" if image.shape[-1] > self.canvas else "bilinear"
        return F.interpolate(image, size=(self.canvas, self.canvas), mode=mode)
