"""Evaluation with a painter whose strokes can be worked out by hand, and the stage on a tiny actor."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lpaint.agent.torch_model import build_actor, load_actor, save_actor
from lpaint.errors import DataError, ModelError, ParamsError
from lpaint.evaluation import (
    METRICS,
    Evaluation,
    _tick,
    evaluate,
    neural_gap,
    ranked,
    replacing_folder,
    summarise,
    write_figures,
)
from lpaint.export.modelcard import model_card
from lpaint.painting.engine.types import Strokes
from lpaint.renderer.networks import build_renderer
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.provenance import record_output
from lpaint.strokes import get_family, pixel_centres
from lpaint.tracking import NullTracker, Tracker
from lpaint.training.weights import save_weights
from stages.evaluate import run
from tests.helpers.specs import tiny_spec

ROOT = Path(__file__).parents[2]


class FlatPainter:
    """Fills its frame with the target's mean colour, opaque."""

    zoom: tuple[int, ...] = (1, 2)
    canvas, bundle, max_steps, overhang = 8, 1, 1, 0.25
    fits_colours, initial_canvas, protocol = False, "black", "search"

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        colour = target.mean((2, 3))[:, None]
        return np.concatenate([np.full((len(target), 1, 10), 0.5, np.float32), colour], 2).astype(np.float32)

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        inside = [(where >= 0) & (where <= 1) for where in (rows, columns)]
        return (inside[0][:, :, None] & inside[1][:, None, :]).astype(np.float32)

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        return np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(shape), 1))


def _pictures(*halves: tuple[int, int], side: int = 16) -> np.ndarray:
    """Pictures whose left and right halves are flat greys: uint8 [N, side, side, 3]."""
    images = np.zeros((len(halves), side, side, 3), np.uint8)
    for image, (left, right) in zip(images, halves, strict=True):
        image[:, : side // 2], image[:, side // 2 :] = left, right
    return images


def _evaluate(images: np.ndarray, budgets: list[int], batch: int = 32) -> Evaluation:
    names = [f"{i}.png" for i in range(len(images))]
    return evaluate(FlatPainter(), images, np.arange(len(images)), names, budgets, batch=batch)


def test_errors_are_those_worked_out_by_hand() -> None:
    # Halves of 0.2 and 0.6: one flat stroke of 0.4 leaves 0.2^2, and black leaves (0.2^2 + 0.6^2) / 2 = 0.2.
    table = _evaluate(_pictures((51, 153)), [1]).table
    row = table.iloc[0]
    assert (row["row"], row["name"], row["strokes"], row["used"]) == (0, "0.png", 1, 1)
    assert row["l2"] == pytest.approx(0.04, abs=1e-6) and row["l2_canvas"] == pytest.approx(0.04, abs=1e-6)
    assert row["psnr"] == pytest.approx(13.979, abs=1e-3)
    assert row["reward"] == pytest.approx(0.8, abs=1e-5)


def test_error_at_canvas_size_does_not_see_detail_finer_than_a_canvas_pixel() -> None:
    checks = np.zeros((1, 16, 16, 3), np.uint8)
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 255
    row = _evaluate(checks, [1]).table.iloc[0]
    assert row["l2"] == pytest.approx(0.25) and row["l2_canvas"] == pytest.approx(0, abs=1e-9)


def test_rows_choose_the_pictures_and_batches_change_nothing() -> None:
    images = _pictures((0, 255), (51, 153), (10, 20), (200, 0), (90, 90))
    rows, names = np.array([4, 1, 3]), ["e", "b", "d"]
    whole = evaluate(FlatPainter(), images, rows, names, [4, 1, 4])
    parts = evaluate(FlatPainter(), images, rows, names, [1, 4], batch=2)
    pd.testing.assert_frame_equal(whole.table, parts.table)
    assert list(whole.table["row"]) == [4, 1, 3] * 2 and list(whole.table["name"]) == names * 2
    assert list(whole.table["strokes"]) == [1] * 3 + [4] * 3 and whole.budgets == [1, 4]
    assert whole.table["l2"].to_numpy()[1] == pytest.approx(0.04, abs=1e-6)


def test_strokes_used_are_counted_where_nothing_more_helps() -> None:
    table = _evaluate(_pictures((90, 90), (51, 153)), [1, 50]).table
    # One stroke paints a flat picture; two halves take the whole and then at least one tile for each.
    assert list(table["used"])[:3] == [1, 1, 1] and 3 <= table["used"][3] < 50
    table = table[table["row"] == 0]
    assert table["l2"].max() < 1e-12 and list(table["psnr"]) == [100, 100]


def test_no_image_is_a_data_error() -> None:
    with pytest.raises(DataError, match="no image to evaluate on"):
        evaluate(FlatPainter(), _pictures((1, 2)), np.array([], np.int64), [], [1])


def test_summary_describes_each_budget() -> None:
    summary = summarise(_evaluate(_pictures((51, 153), (51, 51), (102, 204)), [1]))
    assert summary["images"] == 3 and summary["size"] == 16
    entry = summary["strokes"]["1"]
    assert (entry["n"], entry["used"]) == (3, 1)
    # L2 of .04, 0, .04: mean .0267, median .04, sample deviation .0231.
    assert entry["l2"] == pytest.approx({"mean": 0.026667, "median": 0.04, "ci95": 0.026133}, abs=2e-6)
    assert set(entry) == {"n", "used", *METRICS}


def test_summary_of_one_perfect_painting_is_finite_json_without_an_interval() -> None:
    summary = summarise(_evaluate(_pictures((90, 90)), [1]))
    assert summary["strokes"]["1"]["psnr"] == {"mean": 100, "median": 100}
    json.dumps(summary, allow_nan=False)


def test_ranking_is_by_l2_at_100_strokes_or_else_at_the_last_budget() -> None:
    def table(budgets: list[int], errors: list[list[float]]) -> Evaluation:
        parts = [pd.DataFrame({"strokes": b, "l2": e}) for b, e in zip(budgets, errors, strict=True)]
        return Evaluation(pd.concat(parts, ignore_index=True), np.zeros((5, 8, 8, 3), np.uint8), np.arange(5), [])

    at_100 = ranked(table([50, 100, 200], [[1, 2, 3, 4, 5], [3, 1, 2, 5, 4], [5, 4, 3, 2, 1]]), count=1)
    assert {name: list(places) for name, places in at_100.items()} == {"best": [1], "median": [0], "worst": [3]}
    at_last = ranked(table([50, 200], [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]), count=2)
    assert {name: list(places) for name, places in at_last.items()} == {
        "best": [4, 3],
        "median": [3, 2],
        "worst": [0, 1],
    }


def test_figures_are_complete_and_show_the_paintings_that_were_measured(tmp_path: Path) -> None:
    images = _pictures((51, 153), (0, 0), (90, 90))
    images[1] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    evaluation = _evaluate(images, [1, 8])
    write_figures(evaluation, FlatPainter(), tmp_path, timelapses=2)
    expected = {f"{name}.png" for name in ("best", "median", "worst", "l2", "psnr", "ssim")}
    expected |= {"timelapse_0.webp", "timelapse_1.webp", "per_image.parquet", "strokes.csv", "paintings.npz"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "per_image.parquet"), evaluation.table)
    means = pd.read_csv(tmp_path / "strokes.csv")
    assert list(means["strokes"]) == [1, 8] and set(means) == {"strokes", "used", *METRICS}
    # The worst is the noise: target, then after 1 stroke and after 8, below 16 pixels of captions.
    worst = np.asarray(Image.open(tmp_path / "worst.png"))
    assert worst.shape == (16 + 3 * 18 + 2, 3 * 18 + 2, 3)
    target, after_1, after_8 = (worst[18:34, left : left + 16].astype(float) for left in (2, 20, 38))
    assert (target == images[1]).all()
    assert after_1 == pytest.approx(np.broadcast_to(images[1].mean((0, 1)), (16, 16, 3)), abs=0.51)
    error = np.square((after_8 - target) / 255).mean()
    assert error == pytest.approx(evaluation.table.query("strokes == 8 and row == 1")["l2"].item(), abs=1e-3)


def test_timelapse_starts_black_ends_in_the_painting_and_holds_it(tmp_path: Path) -> None:
    evaluation = _evaluate(_pictures((200, 200)), [1])
    write_figures(evaluation, FlatPainter(), tmp_path, timelapses=5)
    timelapse: Any = Image.open(tmp_path / "timelapse_0.webp")
    assert timelapse.n_frames == 2 and timelapse.size == (32, 32)
    frames = []
    for i in range(2):
        timelapse.seek(i)
        timelapse.load()
        frames.append((np.asarray(timelapse.convert("RGB")).astype(int).mean(), timelapse.info["duration"]))
    assert frames[0][0] < 3 and abs(frames[1][0] - 200) < 4
    assert frames[0][1] == 60 and 2000 <= frames[1][1] <= 2060


def test_neural_gap_compares_first_whole_picture_strokes_only() -> None:
    family = get_family("bezier")
    values = torch.cat([family.sample(6, torch.Generator().manual_seed(0)), torch.zeros(6, 3)], 1).numpy()
    frames = np.array([[0, 0, 1, 1]] * 3 + [[0, 0, 0.5, 0.5]] + [[0, 0, 1, 1]] * 2, np.float32)
    strokes = [Strokes(frames, values), Strokes(frames[:0], values[:0].reshape(0, 0))]
    seen: list[torch.Tensor] = []

    class Off(torch.nn.Module):
        def forward(self, shape: torch.Tensor) -> torch.Tensor:
            seen.append(shape)
            return family.rasterise(shape, *pixel_centres(len(shape), 24)) + 0.1

    gap = neural_gap(Off(), family, strokes, first=5)
    assert gap == {"l1": 0.1, "l2": 0.01, "strokes": 4}
    assert torch.equal(torch.cat(seen), torch.from_numpy(values[[0, 1, 2, 4], :10]))
    assert neural_gap(Off(), family, strokes[1:], first=5) == {"strokes": 0}


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"] and len(list(tmp_path.iterdir())) == 1
    with replacing_folder(folder) as temporary:
        (temporary / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"] and len(list(tmp_path.iterdir())) == 1


class Recorder(NullTracker):
    """Keeps what is logged, and to which run."""

    def __init__(self) -> None:
        self.metrics: list[tuple[str, int, float]] = []
        self.artifacts: list[str] = []
        self.others: dict[str | None, Recorder] = {}

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        self.metrics += [(name, step, value) for name, value in metrics.items()]

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.artifacts.append(path.name)

    def for_run(self, run_id: str | None) -> Tracker:
        return self.others.setdefault(run_id, Recorder())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with prepared pictures, a tiny untrained actor and renderer, as the earlier stages leave them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    np.save(prepared / "images.npy", images)
    columns: dict[str, Any] = {"index": range(6), "name": [f"{i}.png" for i in range(6)]}
    columns |= {
        "split": ["train"] * 2 + ["validation"] + ["test"] * 3,
        "ok": True,
        "reason": "",
        "width": 32,
        "height": 32,
    }
    pd.DataFrame(columns).to_parquet(prepared / "manifest.parquet")
    (prepared / "summary.json").write_text('{"digest": "d"}')
    torch.manual_seed(0)
    spec = tiny_spec(max_steps=2, fit_colours="never", initial_canvas="black")
    save_actor(tmp_path / "models" / "actor.safetensors", build_actor(spec), spec)
    settings = {"network": "published", "shape_parameters": 10, "canvas": 16}
    save_weights(tmp_path / "models" / "renderer.safetensors", build_renderer(settings), settings)
    return tmp_path


def _params(**evaluation: Any) -> Params:
    values = load_params(ROOT / "params.yaml").model_dump(by_alias=True)
    values["base"] |= {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1}
    values["evaluate"] = {"images": 0, "strokes": [2, 6], "effort": 2, "timelapses": 1} | evaluation
    return Params.model_validate(values)


def _digests(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_stage_writes_the_same_bytes_twice(workspace: Path) -> None:
    run(_params(), NullTracker())
    first = _digests(workspace / "reports")
    run(_params(), NullTracker())
    assert _digests(workspace / "reports") == first
    assert {"evaluation.json", "evaluation/strokes.csv", "evaluation/per_image.parquet"} <= set(first)


def test_stage_reports_to_its_own_run_and_to_the_agents(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_output("agent-run", workspace / "models" / "actor.safetensors")
    tracker = Recorder()
    run(_params(images=2), tracker)
    report = json.loads((workspace / "reports" / "evaluation.json").read_text())
    assert report["images"] == 2 and list(report["strokes"]) == ["2", "6"]
    assert (report["protocol"], report["left_out"]) == ("search", [])
    # The single validation picture, judged in the same way, under names of its own.
    validation = report["validation"]
    assert validation["images"] == 1 and list(validation["strokes"]) == ["2", "6"]
    assert set(validation["strokes"]["6"]) == set(report["strokes"]["6"])
    assert ("validation_final/l2", 6, validation["strokes"]["6"]["l2"]["mean"]) in tracker.metrics
    assert ("test/used", 6, report["strokes"]["6"]["used"]) in tracker.metrics
    assert not [name for name, _, _ in tracker.metrics if name.startswith("validation/")], "the training's curve"
    assert report["neural_gap"]["l1"] > 0 and report["neural_gap"]["strokes"] <= 2 * 2 * 2
    assert ("test/l2", 6, report["strokes"]["6"]["l2"]["mean"]) in tracker.metrics
    assert {"evaluation.json", "worst.png", "l2.png", "timelapse_0.webp"} <= set(tracker.artifacts)
    assert list(tracker.others) == ["agent-run"] and tracker.others["agent-run"].metrics == tracker.metrics
    assert (
        list(pd.read_parquet(workspace / "reports" / "evaluation" / "per_image.parquet")["name"])
        == ["3.png", "4.png"] * 2
    )
    told = capsys.readouterr().out
    assert "1 validation images at 32 px" in told and "2 test images at 32 px" in told and "   used" in told


def test_stage_judges_an_episode_up_to_its_end(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "models" / "actor.safetensors"
    actor, spec = load_actor(path)
    save_actor(path, actor, replace(spec, zoom=(1,), protocol="episode"))
    params = _params(strokes=[3, 4, 50, 6])
    with pytest.raises(ParamsError, match=r"evaluate\.protocol is search, but .* was trained and validated by episode"):
        run(params, NullTracker())
    agent = params.agent.model_copy(update={"zoom": [1], "max_steps": 2, "bundle": 2})
    evaluation = params.evaluate.model_copy(update={"protocol": "episode"})
    run(params.model_copy(update={"agent": agent, "evaluate": evaluation}), NullTracker())
    report = json.loads((workspace / "reports" / "evaluation.json").read_text())
    assert (report["protocol"], report["left_out"]) == ("episode", [6, 50])
    for judged in (report, report["validation"]):
        assert {budget: row["used"] for budget, row in judged["strokes"].items()} == {"3": 3, "4": 4}
    assert "strokes 6, 50 are left out: the agent's episode ends after 4" in capsys.readouterr().out
    parity = {"actor": {"1": 0.0}}
    card = model_card(spec, report, parity)
    for words in ("`episode`: the published episode", "| 4 | 4.0 |", "end of the episode are left out: 6, 50"):
        assert words in card
    assert "effort" not in card and card.count("| 4 | 4.0 |") == 2, "both splits"


def test_plots_say_how_many_strokes_were_used() -> None:
    assert (_tick(100, 99.7), _tick(100, 42.2)) == ("100", "100\n(42 used)")


def test_stage_leaves_no_report_without_test_images_or_model(workspace: Path) -> None:
    (workspace / "models" / "renderer.safetensors").unlink()
    with pytest.raises(ModelError, match=r"renderer\.safetensors"):
        run(_params(), NullTracker())
    manifest = workspace / "data" / "prepared" / "manifest.parquet"
    pd.read_parquet(manifest).assign(split="train").to_parquet(manifest)
    with pytest.raises(DataError, match="test split is empty"):
        run(_params(), NullTracker())
    assert not (workspace / "reports").exists()
