"""Make docs/strokes.md and its sheets: `python docs/strokes.py`.

Takes minutes on a CPU: it trains one neural renderer for each family.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer

from lpaint.files import write_text
from lpaint.plots import save_image, sheet
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.params import Params, load_params
from lpaint.strokes import StrokeFamily, family_names, get_family, pixel_centres
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import choose_compute

ROOT = Path(__file__).parents[1]
SHOWN = 8
INTRODUCTION = """# Stroke families

A stroke is a shape and a colour. The shape is a list of numbers in 0..1. They are coordinates in a *frame*: the whole
picture, or the tile for which the stroke was proposed. A *family* is a brush: the meaning of these numbers, and how the
stroke is drawn. `stroke.family` in `params.yaml` selects the family for the agent's action, the input of the neural
renderer, the exported model and the painting. `lpaint strokes` prints this list.

Each picture shows random strokes. Above: drawn exactly at 128 px. Below: drawn by a neural renderer at 64 px, after
{updates} updates. `python docs/strokes.py` makes this page. One test checks the same contract for every family: range,
resolution, bounds, gradients, degenerate shapes and export.
"""


def main(updates: Annotated[int, typer.Option(min=1, help="Updates of each neural renderer.")] = 1600) -> None:
    """Write the page and a sheet for every family."""
    params = load_params(ROOT / "params.yaml")
    page = [INTRODUCTION.format(updates=updates)]
    for name in family_names():
        family = get_family(name)
        training = _train(params, name, updates)
        _draw_sheet(family, training, ROOT / f"docs/images/strokes/{name}.png")
        page.append(_section(family, training.progress.curve[-1]))
    write_text(ROOT / "docs/strokes.md", "\n".join(page))


def _train(params: Params, name: str, updates: int) -> RendererTraining:
    schedule = {"updates": updates, "validate_every": updates, "checkpoint_every": updates}
    variant = params.model_copy(
        update={
            "stroke": params.stroke.model_copy(update={"family": name}),
            "renderer": params.renderer.model_copy(update=schedule),
        }
    )
    with TemporaryDirectory() as folder:
        training = RendererTraining(
            variant, choose_compute(params.base), CheckpointManager(Path(folder)), NullTracker()
        )
        training.run()
    return training


@torch.no_grad()
def _draw_sheet(family: StrokeFamily, training: RendererTraining, path: Path) -> None:
    shape = training.validation_shapes[:SHOWN].cpu()
    exact = family.rasterise(shape, *pixel_centres(SHOWN, 128))
    neural = training.network.cpu()(shape).repeat_interleave(2, 1).repeat_interleave(2, 2)
    save_image(path, sheet([list(row[:, None].expand(-1, 3, -1, -1).numpy()) for row in (exact, neural)]))


def _section(family: StrokeFamily, last: dict[str, float]) -> str:
    rows = "\n".join(f"| `{parameter.name}` | {parameter.meaning} |" for parameter in family.shape)
    return f"""
## {family.name}

{family.summary.capitalize()}; {family.parameters} numbers with the colour.
Neural renderer: validation L1 {last["l1"]:.4f}, L2 {last["l2"]:.5f}.

![{family.name} strokes, exact above neural](images/strokes/{family.name}.png)

| number | meaning |
|---|---|
{rows}
"""


if __name__ == "__main__":
    typer.run(main)
