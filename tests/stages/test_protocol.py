"""The published episode as a protocol of painting: in the painter, in training, in models and on the command line."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from lpaint import Painter
from lpaint.agent.environment import Compositor, rollout
from lpaint.agent.state import actor_spec
from lpaint.agent.targets import TargetSampler
from lpaint.agent.torch_model import TorchPaintingModel, build_actor
from lpaint.agent.trainer import AgentTraining
from lpaint.bench.study import evaluate_actor
from lpaint.data.dataset import PreparedData
from lpaint.errors import ModelError, ParamsError
from lpaint.evaluation import evaluate
from lpaint.export.onnx import actor_metadata
from lpaint.painting.actor_spec import ActorSpec
from lpaint.painting.engine.search import budgets_within_episode, paint, paint_by_search
from lpaint.painting.onnx_model import OnnxPainter, describe
from lpaint.painting.picture import Plan
from lpaint.painting.render import draw_strokes
from lpaint.runtime.params import Params, load_params, parse_params
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import exact_rasteriser, get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute, choose_compute
from tests.helpers.specs import tiny_spec
from tests.helpers.tiny import tiny_params, tiny_values

ROOT = Path(__file__).parents[2]
# 3 steps of 2 strokes.
EPISODE = {"agent": {"zoom": [1], "fit_colours": "never"}, "evaluate": {"protocol": "episode", "strokes": [4, 6]}}


class Detour:
    """Fills the picture with white at the first step, which harms a dark one, and at the others with the target."""

    zoom: tuple[int, ...] = (1,)
    canvas, bundle, max_steps, overhang = 8, 2, 3, 0.0
    fits_colours, initial_canvas, protocol = False, "black", "episode"

    def __init__(self) -> None:
        self.fractions: list[list[float]] = []

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        self.fractions.append(fraction.tolist())
        strokes = np.full((len(target), 2, 13), 0.5, np.float32)
        first = (fraction == 0)[:, None]
        strokes[:, 0, 10:] = np.where(first, 1.0, 0.9 * target.mean((2, 3)))
        strokes[:, 1, 10:] = np.where(first, 0.8, target.mean((2, 3)))
        return strokes

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        return np.ones((len(shape), rows.shape[1], columns.shape[1]), np.float32)

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        return np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(shape), 1))


def _dark(*shades: float) -> np.ndarray:
    return np.array(shades, np.float32)[:, None, None, None] * np.ones((1, 3, 12, 16), np.float32)


def test_an_episode_lays_every_stroke_in_order_at_its_step() -> None:
    model = Detour()
    told: list[int] = []
    painting = paint(model, _dark(0.1, 0.2), [1, 2, 5, 6], told.append)
    np.testing.assert_allclose(np.array(model.fractions), np.array([[0, 0], [1, 1], [2, 2]]) / 3, atol=1e-6)
    assert told == [2, 4, 6]
    for b, shade in enumerate((0.1, 0.2)):
        colours = [1, 0.8, 0.9 * shade, shade, 0.9 * shade, shade]
        np.testing.assert_allclose(painting.strokes[b].values[:, 10], colours, rtol=1e-6)
        for budget in (1, 2, 5, 6):
            np.testing.assert_allclose(painting.snapshots[budget][b], colours[budget - 1], rtol=1e-6)
    assert (painting.strokes[0].frames == [0, 0, 1, 1]).all()


def test_a_shorter_budget_ends_the_episode_within_a_bundle() -> None:
    model = Detour()
    painting = paint(model, _dark(0.1), [3])
    assert [len(each) for each in painting.strokes] == [3] and len(model.fractions) == 2


def test_a_budget_beyond_the_episode_goes_on_with_what_helps() -> None:
    target = np.random.default_rng(0).random((1, 3, 12, 16)).astype(np.float32)
    model = Detour()
    painting = paint(model, target, [6, 50])
    assert len(painting.strokes[0]) == 6, "no flat stroke helps after the best flat one"

    # A canvas left worse than it could be: the last stroke of the episode is not the best one.
    def act(canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        colour = 0.3 * canvas.mean() + 0.7 * target.mean()
        return np.tile(np.where(np.arange(13) < 10, 0.5, colour).astype(np.float32), (1, 2, 1))

    model.act = act  # type: ignore[method-assign]
    painting = paint(model, target, [6, 50])
    errors = [np.square(painting.snapshots[budget] - target).mean() for budget in (6, 50)]
    assert 6 < len(painting.strokes[0]) <= 50 and errors[1] < errors[0]


def test_a_model_that_searches_is_painted_by_error() -> None:
    model = Detour()
    model.protocol = "search"
    ours, theirs = (how(model, _dark(0.1), [6]) for how in (paint, paint_by_search))
    assert np.array_equal(ours.strokes[0].values, theirs.strokes[0].values) and len(ours.strokes[0]) < 6


def test_budgets_beyond_the_episode_are_not_judged() -> None:
    model = Detour()
    assert budgets_within_episode(model, [500, 6, 5, 6]) == [5, 6] and budgets_within_episode(model, [7, 500]) == [6]
    images = np.full((2, 16, 16, 3), 25, np.uint8)
    table = evaluate(model, images, np.arange(2), ["a", "b"], [5, 6, 500]).table
    assert list(table["strokes"]) == [5, 5, 6, 6] and list(table["used"]) == [5, 5, 6, 6]
    model.protocol = "search"
    assert budgets_within_episode(model, [500, 6, 5, 6]) == [5, 6, 500]


def test_the_painter_paints_the_trainings_own_episode() -> None:
    params = tiny_params(**EPISODE)
    torch.manual_seed(3)
    agent = params.agent
    spec = tiny_spec(max_steps=agent.max_steps, bundle=agent.bundle, zoom=(1,), protocol="episode", blocks=1)
    spec = replace(spec, fit_colours=agent.fit_colours, initial_canvas=agent.start)
    actor, family = build_actor(spec).eval(), get_family("bezier")
    images = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    sampler = TargetSampler(images, torch.arange(5), 16, [1], torch.device("cpu"))
    compositor = Compositor(family, partial(exact_rasteriser, family, compiled=False))

    @torch.no_grad()
    def policy(canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        return actor(canvas, target, fraction.float())

    episode = params.agent.model_copy(update={"environments": 4, "flip": False, "start": "black"})
    parts = list(rollout(sampler, compositor, policy, episode, torch.Generator().manual_seed(2)))
    targets = sampler.load_targets(parts[0].view).numpy()
    model = TorchPaintingModel(actor, spec, Compute("cpu", "fp32", 1, compile=False))
    painting = paint(model, targets, [2, 4, 6])
    for step, part in enumerate(parts):
        difference = np.abs(255 * painting.snapshots[2 * step + 2] - part.next_obs.numpy())
        assert part.next_obs.float().std() > 5 and difference.max() <= 0.6, f"step {step}"
    *_, drawn = draw_strokes(model, painting.strokes[0], 16, 16)
    np.testing.assert_allclose(drawn, painting.snapshots[6][0], atol=1e-5)


def test_colours_are_fitted_in_an_episode_where_the_model_says_so() -> None:
    model = Detour()
    model.fits_colours = True
    painting = paint(model, _dark(0.1), [1, 6])
    np.testing.assert_allclose(painting.strokes[0].values[:, 10:], 0.1, atol=6e-3)


# Parameters


def test_an_older_file_without_the_protocol_searches() -> None:
    values = tiny_values()
    del values["evaluate"]["protocol"]
    assert parse_params(values, "old").evaluate.protocol == "search"


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"evaluate": {"protocol": "episode"}}, r"evaluate\.protocol: episode paints the whole picture .*\[1, 2\]"),
        ({**EPISODE, "evaluate": {"protocol": "episode", "strokes": [7]}}, r"an episode ends after 6 strokes"),
        ({"evaluate": {"protocol": "greedy"}}, r"evaluate\.protocol is 'greedy'"),
    ],
)
def test_what_no_episode_can_be_is_refused(overlay: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        tiny_params(**overlay)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("paper", "episode"), ("mnist", "episode"), ("svhn", "episode"), ("faces-cpu", "search"), ("smoke", "search")],
)
def test_profiles_say_how_their_agents_are_judged(name: str, protocol: str) -> None:
    params = params_with_profile(ROOT, name)
    assert params.evaluate.protocol == protocol and load_params(ROOT / "params.yaml").evaluate.protocol == "search"
    if protocol == "episode":
        assert max(params.evaluate.strokes) <= params.agent.max_steps * params.agent.bundle


def test_a_profile_adds_the_protocol_to_a_file_that_is_older(tmp_path: Path) -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  protocol:"))
    (tmp_path / "params.yaml").write_text("\n".join(lines[:at] + lines[at + 2 :]) + "\n")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/own.yaml").write_text((ROOT / "profiles/paper.yaml").read_text())
    assert load_params(tmp_path / "params.yaml").evaluate.protocol == "search"
    assert params_with_profile(tmp_path, "own").evaluate.protocol == "episode"


# Training


def _training(params: Params, chain: Path, folder: Path) -> AgentTraining:
    data, compute = PreparedData.load(chain / "data/prepared"), choose_compute(params.base)
    rasterisers = partial(exact_rasteriser, get_family(params.stroke.family), compiled=False)
    return AgentTraining(params, data, compute, rasterisers, CheckpointManager(folder), NullTracker())


def test_training_validates_by_the_protocol_and_weights_remember_it(chain: Path, tmp_path: Path) -> None:
    # 12 validation strokes are asked for; an episode has 6.
    params = tiny_params(**EPISODE)
    training = _training(params, chain, tmp_path)
    result = training.run()
    assert result.spec.protocol == "episode" and params.validation_strokes == 6
    best = min(result.progress.curve, key=lambda row: row["l2"])
    model = TorchPaintingModel(result.actor, result.spec, training.compute)
    canvas = paint(model, training.validator.targets, [6]).snapshots[6]
    assert np.square(canvas - training.validator.targets).mean() == pytest.approx(best["l2"], rel=1e-5)
    searched = paint_by_search(model, training.validator.targets, [6], effort=1).snapshots[6]
    assert np.square(searched - training.validator.targets).mean() != pytest.approx(best["l2"], rel=1e-5)


def test_a_search_validates_at_the_strokes_that_are_asked_for() -> None:
    assert tiny_params(agent={"zoom": [1]}).validation_strokes == 12


def test_studies_choose_on_validation_pictures(chain: Path, tmp_path: Path) -> None:
    training = _training(tiny_params(), chain, tmp_path)
    data = PreparedData.load(chain / "data/prepared")
    _, evaluation = evaluate_actor(training, data, 2, [4])
    assert list(evaluation.rows) == list(data.split("validation")[:2])
    _, evaluation = evaluate_actor(training, data, 2, [4], split="test")
    assert list(evaluation.rows) == list(data.split("test")[:2])


# Models


def _restated(path: Path, actor: Path, **changes: str | None) -> Path:
    """An exported actor with other metadata; None leaves a key out."""
    model = onnx.load(actor)
    facts = {prop.key: prop.value for prop in model.metadata_props} | {f"lpaint.{k}": v for k, v in changes.items()}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in facts.items() if value is not None})
    onnx.save(model, path)
    return path


@pytest.fixture
def episode(actor: Path, tmp_path: Path) -> Path:
    """The chain's actor, as if it had learnt the published episode: 3 steps of 2 strokes."""
    return _restated(tmp_path / "episode.onnx", actor, protocol="episode", zoom="[1]")


def test_metadata_carry_the_protocol(chain: Path, actor: Path, tmp_path: Path) -> None:
    params = tiny_params(**EPISODE)
    spec = actor_spec(params, PreparedData.load(chain / "data/prepared"))
    assert actor_metadata(spec, get_family("bezier"), "", "")["protocol"] == "episode"
    settings = {key: value for key, value in spec.to_settings().items() if key != "protocol"}
    assert ActorSpec.from_settings(settings, "old").protocol == "search"
    assert describe(actor)["protocol"] == "search"
    old = _restated(tmp_path / "old.onnx", actor, protocol=None)
    assert OnnxPainter(old, "cpu").protocol == "search" and describe(old)["protocol"] == "search"
    with pytest.raises(ModelError, match="metadata is damaged"):
        OnnxPainter(_restated(tmp_path / "new.onnx", actor, protocol="dream"), "cpu")


def test_paint_obeys_the_models_protocol(lpaint, episode: Path, picture: Path, tmp_path: Path) -> None:
    assert "protocol" in lpaint("info", episode).out
    assert json.loads(lpaint("info", episode, "--json").out)["protocol"] == "episode"
    paint = ("paint", picture, "--onnx", episode, "--device", "cpu", "--overwrite", "-o", "a.json")
    assert lpaint(*paint).out == "a.json: 6 strokes\n", "as many as the episode has"
    painted = json.loads((tmp_path / "a.json").read_text())["strokes"]
    assert all(stroke["frame"] == [0, 0, 1, 1] for stroke in painted)
    model = OnnxPainter(episode, "cpu", 1)
    target = np.asarray(Painter(episode, "cpu").paint(picture, 6).pixels())
    assert len(Painter(episode, "cpu").paint(picture)) == 6 == Plan().total(model) and target.shape == (40, 60, 3)
    assert lpaint(*paint, "--strokes", 3).out == "a.json: 3 strokes\n"
    assert json.loads((tmp_path / "a.json").read_text())["strokes"] == painted[:3]
    outcome = lpaint(*paint, "--strokes", 40)
    assert outcome.code == 0 and json.loads((tmp_path / "a.json").read_text())["strokes"][:6] == painted
    assert lpaint(*paint, "--divide", 2, "--steps", 3).code == 0
    outcome = lpaint(*paint, "--effort", 4)
    assert outcome.code == 2 and "--effort: this agent paints the 6 strokes of its episode in order" in outcome.sentence
    assert lpaint(*paint, "--effort", 4, "--strokes", 40).code == 0


def test_a_model_that_searches_paints_a_thousand_strokes_unless_told() -> None:
    model = Detour()
    assert Plan().total(model) == 6 and Plan(strokes=9).total(model) == 9
    model.protocol = "search"
    assert Plan().total(model) == 1000
