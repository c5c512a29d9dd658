"""Actor and critic, the painting environment with its zoom, and rewards."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.agent.environment import Compositor, rollout, to_uint8
from lpaint.agent.networks import Actor, Critic
from lpaint.agent.reward import RewardModel, edge_weight
from lpaint.agent.targets import TargetSampler, fits_on_gpu, place_images, placement
from lpaint.agent.torch_model import TorchPaintingModel, build_actor, load_actor, save_actor
from lpaint.errors import ModelError
from lpaint.replay import Transitions, View
from lpaint.runtime.params import Agent, Reward, load_params
from lpaint.strokes import Rasteriser, composite, exact_rasteriser, get_family
from lpaint.training.device import Compute
from lpaint.training.layers import TranslatedReLU
from tests.helpers.specs import tiny_spec
from tests.helpers.tiny import tiny_params

DEFAULTS = load_params(Path(__file__).parents[2] / "params.yaml").agent

SPEC = tiny_spec()
CPU = torch.device("cpu")


def _constant_rasteriser(alpha: float) -> Callable[[int], Rasteriser]:
    """Every stroke covers the whole canvas with opacity ``alpha``."""
    return lambda size: lambda shape: torch.full((len(shape), size, size), alpha)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _flat(*values: float) -> Tensor:
    """One flat grey picture a value: [len(values), 3, 4, 4]."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def _photographs() -> Tensor:
    """Three pictures [3, 32, 32, 3] whose pixels all differ: red is the row, green the column, blue the picture."""
    images = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    images[..., 0] = torch.arange(32, dtype=torch.uint8)[:, None] * 8
    images[..., 1] = torch.arange(32, dtype=torch.uint8) * 8
    images[..., 2] = torch.arange(3, dtype=torch.uint8)[:, None, None] * 100
    return images


def _sampler(zoom: list[int], rows: tuple[int, ...] = (0, 2), canvas: int = 16) -> TargetSampler:
    return TargetSampler(_photographs(), torch.tensor(rows), canvas, zoom, CPU)


def _episode(environments: int, max_steps: int, **changes: Any) -> Agent:
    """Settings of an episode as published; ``changes`` go on top."""
    plain = {"fit_colours": "never", "start": "black", "crops": "random", "carry": "pixels", "flip": False}
    sizes = {"environments": environments, "max_steps": max_steps}
    return tiny_params(agent={**plain, **sizes, **changes}).agent


def _joined(parts: list[Transitions]) -> tuple[Tensor, Tensor, Tensor]:
    """All canvases, next canvases, and steps: [K, B, ...]."""
    return tuple(torch.stack([getattr(part, name) for part in parts]) for name in ("obs", "next_obs", "step"))  # type: ignore[return-value]


# Networks


@pytest.mark.parametrize("side", [16, 32])
def test_the_actor_gives_a_bundle_of_strokes_in_the_unit_cube(side: int) -> None:
    torch.manual_seed(0)
    actor = Actor(side, 5, 13, 4)
    canvas, target = torch.rand(2, 3, 3, side, side)
    strokes = actor(canvas, target, torch.tensor([0.0, 0.4, 0.8]))
    assert strokes.shape == (3, 5, 13)
    assert strokes.min() > 0 and strokes.max() < 1
    assert strokes.dtype == torch.float32


def test_an_attention_head_gives_strokes_and_gradients() -> None:
    torch.manual_seed(0)
    actor = Actor(32, 3, 13, 4, "attention", 1)
    canvas, target = torch.rand(2, 5, 3, 32, 32)
    strokes = actor(canvas, target, torch.rand(5))
    assert strokes.shape == (5, 3, 13) and strokes.min() > 0 and strokes.max() < 1
    assert actor(canvas[:2, :, :16, :16], target[:2, :, :16, :16], torch.rand(2)).shape == (2, 3, 13)
    strokes.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in actor.head.parameters())


def test_an_attention_heads_colours_start_from_the_targets() -> None:
    torch.manual_seed(0)
    actor = Actor(32, 2, 13, 4, "attention").eval()
    torch.nn.init.zeros_(actor.head.out.weight)
    torch.nn.init.zeros_(actor.head.out.bias)
    target = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    strokes = actor(torch.zeros(1, 3, 32, 32), target, torch.zeros(1))
    torch.testing.assert_close(strokes[0, :, 10:], torch.tensor([[0.2, 0.5, 0.9]] * 2), atol=1e-4, rtol=0)


def test_fewer_blocks_make_a_smaller_actor() -> None:
    sizes = [sum(p.numel() for p in Actor(16, 2, 13, 4, "pooled", blocks).parameters()) for blocks in (1, 2)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("changed", ["canvas", "target", "fraction"])
def test_the_actor_uses_all_its_inputs(changed: str) -> None:
    torch.manual_seed(0)
    actor = Actor(16, 2, 13, 4).eval()
    inputs = {"canvas": torch.rand(1, 3, 16, 16), "target": torch.rand(1, 3, 16, 16), "fraction": torch.tensor([0.2])}
    other = {**inputs, changed: 1 - inputs[changed]}
    assert not torch.equal(actor(**inputs), actor(**other))


def test_the_actor_uses_its_coordinate_channels() -> None:
    # Flat pictures look alike everywhere; only the coordinate channels differ when the weights of one are dropped.
    torch.manual_seed(0)
    actor = Actor(16, 2, 13, 4).eval()
    inputs = (torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), torch.zeros(1))
    strokes = [actor(*inputs)]
    for plane in (7, 8):
        with torch.no_grad():
            actor.trunk[0].weight[:, plane] = 0  # type: ignore[operator]
        strokes.append(actor(*inputs))
    assert not torch.equal(strokes[0], strokes[1]) and not torch.equal(strokes[1], strokes[2])


@pytest.mark.parametrize("changed", range(4))
def test_the_critic_gives_one_value_a_picture_from_all_its_inputs(changed: int) -> None:
    torch.manual_seed(0)
    critic = Critic(4)
    inputs = [*torch.rand(3, 5, 3, 32, 32), torch.linspace(0.2, 1, 5)]
    values = critic(*inputs)
    assert values.shape == (5,)
    singles = torch.cat([critic(*(part[i : i + 1] for part in inputs)) for i in range(5)])
    torch.testing.assert_close(singles, values, atol=1e-5, rtol=1e-4)
    inputs[changed] = 1 - inputs[changed]
    assert not torch.equal(critic(*inputs), values)


def test_translated_relu_is_a_maximum() -> None:
    layer = TranslatedReLU(2)
    with torch.no_grad():
        layer.threshold[0, 1] = -1.5
    x = torch.tensor([-2.0, -1.0, 3.0]).view(1, 1, 3, 1).expand(1, 2, 3, 1)
    assert layer(x)[0, :, :, 0].tolist() == [[0, 0, 3], [-1.5, -1, 3]]


# Weights and the painter's view of an actor


def test_a_loaded_actor_is_the_saved_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    actor, path = build_actor(SPEC), tmp_path / "actor.safetensors"
    actor(torch.rand(8, 3, 16, 16), torch.rand(8, 3, 16, 16), torch.rand(8))  # moves the running statistics
    save_actor(path, actor.eval(), SPEC)
    loaded, spec = load_actor(path)
    inputs = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2)
    assert spec == SPEC
    assert not loaded.training
    assert torch.equal(loaded(*inputs), actor(*inputs))


def test_a_missing_actor_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dvc repro train_agent"):
        load_actor(tmp_path / "actor.safetensors")


def test_the_painting_model_is_the_actor_and_the_exact_rasteriser() -> None:
    torch.manual_seed(0)
    actor = build_actor(SPEC).eval()
    model = TorchPaintingModel(actor, SPEC, Compute("cpu", "fp32", 1, False))
    assert (model.canvas, model.bundle, model.max_steps, model.zoom, model.overhang) == (16, 2, 3, (1, 2), 0.26)
    assert (model.fits_colours, model.initial_canvas) == (True, "mean")
    canvas, target = np.random.default_rng(0).random((2, 3, 3, 16, 16))
    fraction = np.array([0.0, 1 / 3, 2 / 3])
    strokes = model.act(canvas, target, fraction)
    assert strokes.shape == (3, 2, 13) and strokes.dtype == np.float32
    expected = actor(*(torch.from_numpy(part).float() for part in (canvas, target, fraction)))
    np.testing.assert_allclose(strokes, expected.detach().numpy(), atol=1e-6)
    alpha = model.rasterise(strokes[0, :, :10], *(np.full((2, 3), 0.5),) * 2, np.full((2, 2), 0.1))
    assert alpha.shape == (2, 3, 3) and alpha.dtype == np.float32


# Environment


def test_whole_pictures_come_from_the_split_and_half_of_them_mirrored() -> None:
    sampler = _sampler([1])
    view = sampler.sample_images(200, True, _rng())
    assert set(view.image.tolist()) == {0, 2}
    assert 60 < view.flip.sum() < 140
    assert not sampler.sample_images(200, False, _rng()).flip.any()
    target = sampler.load_targets(view)
    expected = _photographs()[view.image].permute(0, 3, 1, 2).float() / 255
    expected = torch.where(view.flip.view(-1, 1, 1, 1), expected.flip(3), expected)
    torch.testing.assert_close(target, F.avg_pool2d(expected, 2))


def test_crops_are_cut_from_the_mirrored_picture() -> None:
    sampler = _sampler([1, 2, 4])
    two = torch.tensor([2, 2, 0])
    view = View(two, torch.tensor([3, 3, 0]), torch.tensor([5, 5, 24]), torch.tensor([1, 1, 2]), two == 2)
    view = View(view.image, view.top, view.left, view.level, torch.tensor([False, True, False]))
    target = sampler.load_targets(view)
    picture = _photographs().permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(target[0], picture[2, :, 3:19, 5:21])
    torch.testing.assert_close(target[1], picture[2].flip(2)[:, 3:19, 5:21])
    enlarged = F.interpolate(picture[:1, :, 0:8, 24:32], size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(target[2], enlarged[0])


@pytest.mark.parametrize("flip", [False, True])
def test_a_canvas_is_cropped_as_its_target_is(flip: bool) -> None:
    sampler = _sampler([1, 2, 4])
    view = sampler.sample_images(6, flip, _rng(1))
    canvas = sampler.load_targets(view)
    for level in (1, 2):
        closer, cut = sampler.zoom_in(view, canvas, level, _rng(level))
        side, parent = 32 // 2**level, 64 // 2**level
        assert closer.level.tolist() == [level] * 6
        assert torch.equal(closer.flip, view.flip) and torch.equal(closer.image, view.image)
        for inner, outer in ((closer.top, view.top), (closer.left, view.left)):
            assert (inner >= outer).all() and (inner + side <= outer + parent).all()
        assert len(set(zip(closer.top.tolist(), closer.left.tolist(), strict=True))) > 1
        # The canvas's pixels are twice the target's, so the ramps agree to within a pixel's step but for the edge.
        assert (cut - sampler.load_targets(closer)).abs()[:, :, 2:-2, 2:-2].max() < 0.02
        view, canvas = closer, sampler.load_targets(closer)


def test_an_episode_zooms_in_with_its_canvas() -> None:
    sampler, seen = _sampler([1, 2, 4]), []

    def policy(canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        seen.append((canvas, target, fraction))
        return torch.full((4, 2, 13), 0.25)

    compositor = Compositor(get_family("bezier"), _constant_rasteriser(0.5))
    parts = list(rollout(sampler, compositor, policy, _episode(4, 3, flip=True), _rng(2)))
    before, after, step = _joined(parts)
    assert step.tolist() == [[k] * 4 for k in (0, 1, 2)] * 3
    assert [part.view.level.unique().tolist() for part in parts] == [[level] for level in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    assert [fraction[0].item() for _, _, fraction in seen] == pytest.approx([0, 1 / 3, 2 / 3] * 3)
    assert before.dtype == after.dtype == torch.uint8
    # Two coats of 0.25 at half opacity a step: c <- c / 4 + 3/16, from black; zooming in keeps a flat canvas.
    canvas = [0.0]
    for _ in parts:
        canvas.append(canvas[-1] / 4 + 3 / 16)
    for k in range(9):
        assert before[k].unique().tolist() == [round(255 * canvas[k])]
        assert after[k].unique().tolist() == [round(255 * canvas[k + 1])]
    for part, (_, target, _) in zip(parts, seen, strict=True):
        assert torch.equal(sampler.load_targets(part.view), target)
    for field in fields(View):
        values = [getattr(part.view, field.name) for part in parts[:3]]
        assert torch.equal(values[0], values[2]), "the view stays within a scale"


def test_an_episode_starts_black_and_keeps_what_is_painted() -> None:
    family = get_family("bezier")
    strokes = torch.rand(9, 2, 2, 13, generator=_rng(3))
    order = iter(strokes)
    compositor = Compositor(family, partial(exact_rasteriser, family, compiled=False))
    parts = list(rollout(_sampler([1]), compositor, lambda *_: next(order), _episode(2, 9), _rng()))
    before, after, _ = _joined(parts)
    assert before[0].max() == 0 and after[-1].max() > 0
    assert torch.equal(before[1:], after[:-1])
    canvas, rasterise = torch.zeros(2, 3, 16, 16), exact_rasteriser(family, 16, compiled=False)
    for bundle in strokes:
        for k in range(2):
            alpha = rasterise(bundle[:, k, :10])[:, None]
            canvas = canvas * (1 - alpha) + alpha * bundle[:, k, 10:, None, None]
    assert (after[-1].float() - 255 * canvas).abs().max() <= 0.51


def test_zooming_in_enlarges_what_is_painted_there() -> None:
    family = get_family("bezier")
    strokes = torch.rand(2, 3, 13, generator=_rng(4))
    compositor = Compositor(family, partial(exact_rasteriser, family, compiled=False))
    whole, closer = rollout(_sampler([1, 2]), compositor, lambda *_: strokes, _episode(2, 1), _rng(5))
    for i in range(2):
        # A corner in the picture of 32 pixels is half as far on the canvas of 16.
        top, left = int(closer.view.top[i]) // 2, int(closer.view.left[i]) // 2
        cut = whole.next_obs[i : i + 1, :, top : top + 8, left : left + 8].float()
        enlarged = F.interpolate(cut, size=(16, 16), mode="bilinear", align_corners=False)[0]
        assert enlarged.std() > 10
        assert (closer.obs[i] - enlarged).abs().max() <= 1.01


def test_targets_are_the_same_without_synchronising() -> None:
    sampler = _sampler([1, 2, 4])
    view = sampler.sample_images(6, True, _rng(3))
    canvas, views = sampler.load_targets(view), [view]
    for level in (1, 2):
        view, canvas = sampler.zoom_in(view, canvas, level, _rng(level))
        views.append(view)
    mixed = View(*(torch.cat([getattr(view, field.name) for view in views]) for field in fields(View)))
    mixed = mixed[torch.randperm(18, generator=_rng(4))]
    assert torch.equal(sampler._load_without_sync(mixed), sampler.load_targets(mixed))


def test_a_memory_map_stays_one_without_a_gpu(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", _photographs().numpy())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="c")
    placed = place_images(mapped, CPU)
    assert placed.data_ptr() == mapped.ctypes.data and placement(placed) == "read through a memory map"
    assert TargetSampler(placed, torch.tensor([0, 2]), 16, [1], CPU).images is placed


def test_a_gpu_gets_the_images_if_half_of_it_stays_free() -> None:
    assert fits_on_gpu(12 << 30, 24 << 30) and not fits_on_gpu((12 << 30) + 1, 24 << 30)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mapped_and_resident_images_give_the_same_targets() -> None:
    device = torch.device("cuda")
    view = _sampler([1, 2]).sample_images(8, flip=True, generator=_rng()).to(device)
    rows = torch.tensor([0, 2])
    targets = [
        TargetSampler(_photographs().to(place), rows, 16, [1, 2], device).load_targets(view)
        for place in ("cpu", "cuda")
    ]
    assert targets[0].is_cuda and torch.equal(*targets)


def test_crops_are_drawn_where_the_error_is() -> None:
    sampler = _sampler([1, 2])
    view = sampler.sample_images(400, False, _rng())
    canvas = sampler.load_targets(view)
    error = torch.zeros(400, 16, 16)
    error[:, 0, 0] = 1
    everywhere, _ = sampler.zoom_in(view, canvas, 1, _rng(1))
    there, _ = sampler.zoom_in(view, canvas, 1, _rng(1), error)
    assert everywhere.top.float().mean() > 6
    assert there.top.max() == there.left.max() == 0, "only the first corner has the pixel in its window"
    # Three times the error at the other end: three times the crops.
    error[:, -1, -1] = 3
    top = sampler.zoom_in(view, canvas, 1, _rng(1), error)[0].top
    assert set(top.tolist()) == {0, 16} and (top == 16).float().mean().item() == pytest.approx(0.75, abs=0.06)
    # No error anywhere: anywhere.
    blank, _ = sampler.zoom_in(view, canvas, 1, _rng(1), torch.zeros(400, 16, 16))
    assert blank.left.unique().numel() > 4


def test_strokes_are_drawn_again_on_a_crop() -> None:
    family = get_family("bezier")
    strokes = torch.rand(2, 3, 13, generator=_rng(4))
    compositor = Compositor(family, partial(exact_rasteriser, family, compiled=False))
    settings = _episode(2, 1, carry="strokes", flip=True)
    _, second, third = rollout(_sampler([1, 2, 4]), compositor, lambda *_: strokes, settings, _rng(5))
    for part, shrunk in ((second, 2), (third, 4)):
        for i in range(2):
            # The same, drawn on the whole picture at the crop's own resolution, and cut.
            frames = (
                [(0, 0, 32)]
                if part is second
                else [(0, 0, 32), (int(second.view.top[i]), int(second.view.left[i]), 16)]
            )
            size = 16 * shrunk
            centres = (torch.arange(size) + 0.5) / size * 32
            canvas = torch.zeros(1, 3, size, size)
            for top, left, side in frames:
                rows, columns = (((centres - corner) / side).expand(3, -1) for corner in (top, left))
                pitch = torch.full((3, 2), 32 / size / side)
                alpha = family.rasterise(strokes[i, :, :10], rows, columns, pitch)
                canvas = composite(canvas, alpha[None], strokes[i : i + 1, :, 10:])
            at = [int(corner[i]) * size // 32 for corner in (part.view.top, part.view.left)]
            cut = canvas[0, :, at[0] : at[0] + 16, at[1] : at[1] + 16]
            assert cut.std() > 0.01
            assert (part.obs[i] / 255 - cut).abs().max() < 0.01


@pytest.mark.parametrize(("start", "expected"), [("black", 0.0), ("white", 1.0), ("mean", None)])
def test_an_episode_starts_from_the_chosen_initial_canvas(start: str, expected: float | None) -> None:
    sampler = _sampler([1])
    compositor = Compositor(get_family("bezier"), _constant_rasteriser(0.0))
    (part,) = rollout(
        sampler, compositor, lambda *_: torch.zeros(2, 2, 13), _episode(2, 1, start=start, zoom=[1]), _rng()
    )
    mean = sampler.load_targets(part.view).mean((2, 3), keepdim=True)
    background = mean if expected is None else torch.full_like(mean, expected)
    assert (part.obs / 255 - background).abs().max() <= 0.51 / 255


@pytest.mark.parametrize(("fit", "in_loss", "in_episode"), [("never", 0, 0), ("rollouts", 0, 1), ("always", 1, 1)])
def test_colours_are_fitted_where_the_setting_says(fit: str, in_loss: int, in_episode: int) -> None:
    compositor = Compositor(get_family("bezier"), _constant_rasteriser(1.0), fit)
    canvas, target, strokes = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.7), torch.full((1, 2, 13), 0.1)
    next_canvas, painted = compositor.step(canvas, strokes, target)
    for value, fitted in (
        (next_canvas, in_episode),
        (painted[..., 10:], in_episode),
        (compositor.predict(canvas, strokes, target), in_loss),
    ):
        assert value.mean().item() == pytest.approx(0.7 if fitted else 0.1, abs=4e-3)
    assert torch.equal(painted[..., :10], strokes[..., :10])


def test_bytes_are_rounded() -> None:
    assert to_uint8(torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0])).tolist() == [0, 0, 1, 255]


# Reward


def _reward(score: Any = None, **settings: Any) -> RewardModel:
    defaults = {"l2": 1.0, "l2_form": "difference", "l2_epsilon": 0.01, "edges": 0.0, "gan": 0.0, "gan_scale": "none"}
    return RewardModel(Reward(**{**defaults, **settings}), score, CPU)


def _brightness(pairs: Tensor) -> Tensor:
    """A score: ten times the canvas's mean less the target's mean."""
    return 10 * pairs[:, :3].mean((1, 2, 3)) - pairs[:, 3:].mean((1, 2, 3))


BEFORE, AFTER, TARGET = _flat(0.0, 0.5), _flat(0.8, 0.1), _flat(1.0, 0.5)
"""Squared errors 1 -> 0.04 and 0 -> 0.16."""


def test_the_l2_reward_is_the_drop_of_the_mean_squared_error() -> None:
    assert _reward(l2=2.0)(BEFORE, AFTER, TARGET).tolist() == pytest.approx([1.92, -0.32])


def test_the_log_ratio_reward_compares_errors() -> None:
    # log(1.01 / 0.05) and log(0.01 / 0.17)
    got = _reward(l2_form="log_ratio")(BEFORE, AFTER, TARGET).tolist()
    assert got == pytest.approx([3.005683, -2.833213], abs=1e-5)


def test_the_discriminator_reward_is_the_gain_of_its_score() -> None:
    assert _reward(_brightness, l2=0.0, gan=0.5)(BEFORE, AFTER, TARGET).tolist() == pytest.approx([4.0, -2.0], abs=1e-5)


def test_rewards_add_up_by_their_weights() -> None:
    got = _reward(_brightness, l2=2.0, gan=0.5)(BEFORE, AFTER, TARGET).tolist()
    assert got == pytest.approx([5.92, -2.32], abs=1e-5)
    assert _reward(None, l2=2.0, gan=0.5)(BEFORE, AFTER, TARGET).tolist() == pytest.approx([1.92, -0.32])


def test_the_running_scale_is_the_root_mean_square_of_the_gain() -> None:
    reward = _reward(_brightness, l2=0.0, gan=1.0, gan_scale="running")
    # Gains 8 and -4: mean square 40, by which the very first batch is scaled already.
    assert reward(BEFORE, AFTER, TARGET).tolist() == pytest.approx([8 / 40**0.5, -4 / 40**0.5], abs=1e-5)
    reward(BEFORE, BEFORE, TARGET)  # gains 0: the average of two batches is 20
    assert reward.mean_square.item() == pytest.approx(20, abs=1e-4)
    restored = _reward(_brightness, l2=0.0, gan=1.0, gan_scale="running")
    restored.load_state_dict(reward.state_dict())
    for one in (reward, restored):
        one(BEFORE, AFTER, TARGET)
    assert restored.mean_square.item() == reward.mean_square.item() == pytest.approx(20 + 20 / 3, abs=1e-4)


def test_the_scale_is_no_way_for_gradients() -> None:
    reward, after = _reward(_brightness, l2=0.0, gan=1.0, gan_scale="running"), AFTER.clone().requires_grad_()
    (slope,) = torch.autograd.grad(reward(BEFORE, after, TARGET).sum(), after)
    torch.testing.assert_close(slope, torch.full_like(slope, 10 / slope[0].numel() / 40**0.5))


def test_the_running_scale_starts_anew_after_a_reset() -> None:
    settings = DEFAULTS.reward.model_copy(update={"l2": 0.0, "gan": 1.0, "gan_scale": "running"})
    large = RewardModel(settings, lambda pairs: 100 * pairs.mean((1, 2, 3)), torch.device("cpu"))
    black, grey = torch.zeros(4, 3, 8, 8), torch.full((4, 3, 8, 8), 0.5)
    for _ in range(20):
        large(black, grey, grey)
    large.score = lambda pairs: pairs.mean((1, 2, 3))
    assert large(black, grey, grey).mean().item() < 0.1
    large.reset_scale()
    assert large(black, grey, grey).mean().item() == pytest.approx(1.0)


def test_without_discounted_rewards_the_actor_ignores_the_step() -> None:
    torch.manual_seed(0)
    canvas, target = torch.rand(2, 3, 3, 16, 16)
    for counts, differs in ((True, True), (False, False)):
        actor = Actor(16, 2, 13, 4, counts_steps=counts).eval()
        early, late = (actor(canvas, target, torch.full((3,), at)) for at in (0.0, 0.8))
        assert (not torch.equal(early, late)) == differs
    assert [DEFAULTS.model_copy(update={"discount": at}).counts_steps for at in (0.0, 0.95)] == [False, True]


def test_without_scaling_nothing_is_observed() -> None:
    reward = _reward(_brightness, gan=1.0, gan_scale="none")
    reward(BEFORE, AFTER, TARGET)
    assert reward.mean_square.item() == 1


def test_edges_weigh_more_and_the_mean_weight_is_one() -> None:
    target = torch.zeros(1, 3, 8, 8)
    target[..., 4:] = 1
    weight = edge_weight(target, 2.0)
    assert weight.shape == (1, 1, 8, 8) and weight.mean().item() == pytest.approx(1, abs=1e-5)
    assert weight[0, 0, 4, 3] > 5 * weight[0, 0, 4, 0]
    # An error of the same size costs more on the edge than off it.
    before = target.clone()
    on, off = target.clone(), target.clone()
    on[..., 3] += 0.5
    off[..., 0] += 0.5
    reward = _reward(l2_form="difference", edges=2.0)
    assert reward(before, on, target).item() < reward(before, off, target).item() < 0
    torch.testing.assert_close(edge_weight(torch.full((1, 3, 8, 8), 0.3), 5.0), torch.ones(1, 1, 8, 8))
