"""Search or episode for agents with zoom [1]: `python benchmarks/protocols.py`, on digits that come with scikit-learn.

MNIST and SVHN are not available everywhere, so the profiles `mnist` and `svhn` are trained on substitutes: the 1,797
digits of scikit-learn, enlarged; for SVHN they are coloured, on coloured backgrounds beside parts of other digits. An
agent is trained once per seed, without selecting a checkpoint, and evaluated on all validation images in every way: by
search at efforts 1 and 8 and by the published episode, with the actor's own colours and with fitted ones. Adds to
NAME.json and its table, NAME.table.md; trainings that the report already holds are skipped.
"""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from lpaint.agent.networks import Actor
from lpaint.agent.torch_model import TorchPaintingModel
from lpaint.agent.trainer import AgentTraining
from lpaint.bench.study import add_cell, has_cell
from lpaint.data.dataset import PreparedData
from lpaint.evaluation import evaluate, summarise
from lpaint.painting.actor_spec import ActorSpec
from lpaint.renderer.networks import canvas_rasterisers
from lpaint.runtime.params import Params, parse_params
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute, choose_compute
from stages import prepare

ROOT = Path(__file__).parents[1]
BUDGETS = {"mnist": [5, 10], "svhn": [10, 20, 40]}
# Protocol, effort, and when colours are fitted.
WAYS = [(*way, fitted) for way in (("search", 1), ("search", 8), ("episode", 1)) for fitted in ("never", "painting")]


def main(
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    updates: Annotated[int, typer.Option(min=1, help="Updates of each training.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "protocols",
) -> None:
    """Train and evaluate what the report lacks."""
    report = out.resolve() / f"{report_name}.json"
    with TemporaryDirectory() as folder:
        for seed in map(int, seeds.split(",")):
            for name, write in (("mnist", _write_mnist), ("svhn", _write_svhn)):
                key = f"{name}/{seed}"
                if has_cell(report, key):
                    continue
                home = Path(folder) / name
                params = _params(name, seed, updates, threads, home)
                if not home.exists():
                    home.mkdir()
                    os.chdir(home)
                    write(home)
                    prepare.run(params, NullTracker())
                add_cell(report, key, run(params, PreparedData.load(home / "data/prepared"), BUDGETS[name]), table)


def run(params: Params, data: PreparedData, budgets: list[int]) -> dict[str, Any]:
    """Train one agent and evaluate it in every way."""
    compute = choose_compute(params.base)
    rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute)
    with TemporaryDirectory() as folder:
        training = AgentTraining(params, data, compute, rasterisers, CheckpointManager(Path(folder)), NullTracker())
        training.run()
    return {
        "split": "validation",
        "images": len(data.split("validation")),
        "updates": training.progress.update,
        "seconds": round(training.progress.seconds, 1),
        "judged": evaluate_all(training.actor.eval(), training.actor_spec, data, budgets, compute),
        "compute": compute.as_dict(),
    }


def evaluate_all(
    actor: Actor, spec: ActorSpec, data: PreparedData, budgets: list[int], compute: Compute
) -> dict[str, Any]:
    """L2 and strokes used on all validation images, by way and stroke budget."""
    rows, results = data.split("validation"), {}
    for protocol, effort, fitted in WAYS:
        model = TorchPaintingModel(actor, replace(spec, protocol=protocol, fit_colours=fitted), compute)
        strokes = summarise(evaluate(model, data.images, rows, data.names(rows), budgets, effort))["strokes"]
        figures = {budget: {"l2": row["l2"]["mean"], "used": row["used"]} for budget, row in strokes.items()}
        results[_name(protocol, effort, fitted)] = figures
        print(f"{_name(protocol, effort, fitted)}: {figures}", flush=True)
    return results


def table(cells: dict[str, Any]) -> str:
    """The report as a Markdown table: L2 of every seed, and in brackets the mean number of strokes used."""
    lines = ["| profile | painted | colours | strokes | L2, one figure a seed | used |", "|---" * 6 + "|"]
    for profile, budgets in BUDGETS.items():
        runs = [cell["judged"] for key, cell in cells.items() if key.startswith(f"{profile}/")]
        for way in WAYS if runs else ():
            rows = [run[_name(*way)] for run in runs]
            for budget in map(str, budgets):
                errors = " ".join(f"{row[budget]['l2']:.4f}" for row in rows)
                used = np.mean([row[budget]["used"] for row in rows])
                painted, colours = _name(*way).split(", ")
                lines.append(f"| {profile} | {painted} | {colours} | {budget} | {errors} | {used:.1f} |")
    return "\n".join(lines) + "\n"


def _name(protocol: str, effort: int, fitted: str) -> str:
    how = f"search effort {effort}" if protocol == "search" else protocol
    return f"{how}, {'fitted' if fitted == 'painting' else 'own'}"


def _params(name: str, seed: int, updates: int, threads: int, path: Path) -> Params:
    """The profile with ``updates`` updates, on the data at ``path``."""
    values = params_with_profile(ROOT, name).model_dump(by_alias=True)
    values["base"] |= {"seed": seed, "threads": threads, "compile": "off"}
    values["data"] |= {"path": str(path), "workers": 1}
    values["agent"] |= {"updates": updates}
    return parse_params(values, name)


def _digits() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Images [N, 8, 8] in 0..16, labels, and the rows of the train and test parts."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    return digits.images, digits.target, {"train": order[:1500], "test": order[1500:]}


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    grey = Image.fromarray(np.uint8(np.clip(image / 16 * 255, 0, 255)))
    return np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC))


def _write_mnist(folder: Path) -> None:
    """Digits of 20 px in frames of 28 px, as in MNIST."""
    digits, labels, parts = _digits()
    for name, rows in parts.items():
        images = np.stack([np.pad(_enlarged(digits[row], 20), 4) for row in rows])
        stem = "train" if name == "train" else "t10k"
        for suffix, values in (("images-idx3", images), ("labels-idx1", labels[rows])):
            head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{stem}-{suffix}-ubyte").write_bytes(head + values.astype(np.uint8).tobytes())


def _write_svhn(folder: Path) -> None:
    """Coloured digits of 32 px on colour ramps with noise; half of them beside a part of another digit."""
    from scipy.io import savemat

    digits, labels, parts = _digits()
    for name, rows in parts.items():
        rng = np.random.default_rng(len(name))
        images = []
        for row in rows:
            near, far, ink = rng.uniform(0, 255, (3, 3))
            ramp = np.linspace(0, 1, 32).reshape((32, 1, 1) if rng.random() < 0.5 else (1, 32, 1))
            background = near * (1 - ramp) + (0.6 * near + 0.4 * far) * ramp + np.zeros((32, 32, 3))
            other = np.roll(_enlarged(digits[rng.choice(rows)], 32), 24, axis=1) / 255
            other[:, :20] = 0
            shape = np.maximum(_enlarged(digits[row], 32) / 255, other * (rng.random() < 0.5))[..., None]
            images.append(background * (1 - shape) + ink * shape + rng.normal(0, 4, (32, 32, 3)))
        x = np.uint8(np.clip(np.stack(images, 3), 0, 255))
        y = np.where(labels[rows] == 0, 10, labels[rows]).astype(np.uint8)[:, None]
        savemat(folder / f"{name}_32x32.mat", {"X": x, "y": y})


if __name__ == "__main__":
    typer.run(main)
