"""The packed pictures as the agent sees them: crops on the device, at the size of its canvas."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.replay import View


def place_images(images: np.ndarray, device: torch.device) -> Tensor:
    """The packed images [N, P, P, 3] uint8 where training reads them: on the GPU if they fit, else where they are.

    A memory map stays on the disk: crops are cut from it on the CPU and sent to the device.
    """
    resident = device.type == "cuda" and fits(images.nbytes, torch.cuda.mem_get_info(device)[0])
    return torch.from_numpy(images).to(device if resident else "cpu")


def fits(needed: int, free: int) -> bool:
    """Whether ``needed`` bytes of images may lie in ``free`` bytes of a GPU: half is for networks and replay."""
    return needed <= free // 2


def placement(images: Tensor) -> str:
    """Where training reads ``images`` from, in words."""
    return "resident on the GPU" if images.is_cuda else "read through a memory map"


class Pictures:
    """The packed images of a split, cut into targets on the device.

    Args:
        images: [N, P, P, 3] uint8, as ``place_images`` gives them: a memory map on the CPU, or resident on the GPU.
        rows: [M] int64, the rows of ``images`` that belong to the split.
        canvas: side S of the agent's canvas in pixels.
        zoom: the scales; scale d shows crops of side P // d.
    """

    def __init__(self, images: Tensor, rows: Tensor, canvas: int, zoom: list[int], device: torch.device) -> None:
        self.images = images
        self.rows = rows.to(device)
        self.canvas, self.device = canvas, device
        self.sides = [images.shape[1] // scale for scale in zoom]

    def whole(self, count: int, flip: bool, generator: torch.Generator) -> View:
        """Views of ``count`` random whole pictures, half of them mirrored if ``flip``."""
        pick = torch.randint(len(self.rows), (count,), generator=generator, device=self.device)
        mirrored = torch.rand(count, generator=generator, device=self.device) < (0.5 if flip else 0.0)
        zero = torch.zeros(count, dtype=torch.int64, device=self.device)
        return View(self.rows[pick], zero, zero, zero, mirrored)

    def closer(
        self, view: View, canvas: Tensor, level: int, generator: torch.Generator, error: Tensor | None = None
    ) -> tuple[View, Tensor]:
        """Crops at the next ``level``, and the canvases [B, 3, S, S] that show what is painted there so far.

        Args:
            view, canvas: what is seen now, and the canvases on it.
            level: index of the next scale.
            generator: draws the crops.
            error: [B, S, S], how wrong each pixel of the canvas is; crops are drawn in proportion to the error in
                them. None draws them evenly.
        """
        parent, side, size = self.sides[level - 1], self.sides[level], self.canvas
        window = size * side // parent
        # Corners lie on the canvas's pixels, so that canvas and target are cropped alike.
        if error is None:
            corner = torch.randint(size - window + 1, (2, len(canvas)), generator=generator, device=self.device)
        else:
            # An actor that fell apart paints what is no number; the updates' check has a better sentence for that.
            chance = F.avg_pool2d(error.nan_to_num()[:, None], window, stride=1).flatten(1) + 1e-12
            corner = torch.stack(_row_and_column(torch.multinomial(chance, 1, generator=generator)[:, 0], size, window))
        offset = corner * parent // size
        steps = torch.arange(window, device=self.device)
        batch = torch.arange(len(canvas), device=self.device)[:, None, None]
        rows, columns = corner[0, :, None] + steps, corner[1, :, None] + steps
        cut = canvas.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        levels = torch.full_like(view.level, level)
        return View(view.image, view.top + offset[0], view.left + offset[1], levels, view.flip), self._fit(cut)

    def targets(self, view: View) -> Tensor:
        """The crops that ``view`` [B] refers to, at canvas size: [B, 3, S, S] in [0, 1]."""
        if self.images.is_cuda:
            return self._targets_without_waiting(view)
        # Crops are cut where the images are, so that only they are sent.
        view = view.to(self.images.device)
        out = torch.empty(len(view.image), 3, self.canvas, self.canvas, device=self.device)
        for level, side in enumerate(self.sides):
            chosen = torch.nonzero(view.level == level).squeeze(1)
            if len(chosen):
                out[chosen.to(self.device)] = self._fit(self._crop(view[chosen], side))
        return out

    def _targets_without_waiting(self, view: View) -> Tensor:
        """``targets`` for a GPU, which would have to be waited for to learn which views are of a level.

        Every view is cut at every level, those of another level from the picture's corner.
        """
        out = torch.zeros(len(view.image), 3, self.canvas, self.canvas, device=self.device)
        for level, side in enumerate(self.sides):
            mine = view.level == level
            placed = View(view.image, view.top * mine, view.left * mine, view.level, view.flip)
            out = torch.where(mine[:, None, None, None], self._fit(self._crop(placed, side)), out)
        return out

    def _crop(self, view: View, side: int) -> Tensor:
        steps = torch.arange(side, device=self.images.device)
        rows, columns = view.top[:, None] + steps, view.left[:, None] + steps
        # A mirrored picture is addressed from its right edge; the crop's corner is in mirrored coordinates.
        columns = torch.where(view.flip[:, None], self.images.shape[2] - 1 - columns, columns)
        crop = self.images[view.image[:, None, None], rows[:, :, None], columns[:, None, :]]
        if self.device.type == "cuda" and not crop.is_cuda:
            crop = crop.pin_memory().to(self.device, non_blocking=True)
        return crop.permute(0, 3, 1, 2).float() / 255

    def _fit(self, picture: Tensor) -> Tensor:
        if picture.shape[-1] == self.canvas:
            return picture
        mode = "area" if picture.shape[-1] > self.canvas else "bilinear"
        return F.interpolate(picture, size=(self.canvas, self.canvas), mode=mode)


def _row_and_column(index: Tensor, size: int, window: int) -> tuple[Tensor, Tensor]:
    """Where the flat ``index`` of a corner lies, of those that keep a window within ``size`` pixels."""
    corners = size - window + 1
    return index // corners, index % corners
