"""The sum tree against cumulative sums, and both replay buffers against sampling worked out by hand."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lpaint.errors import ParamsError
from lpaint.replay import PrioritizedReplay, SumTree, Transitions, UniformReplay, View, build_replay
from lpaint.runtime.params import Per
from lpaint.training.restore import MisfitError

ACTION = (2, 3)
PER = Per(alpha=0.7, beta=0.4, epsilon=1e-3, stratified=True, actor_sampling="shared")


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _transitions(count: int, first: int = 0, canvas: int = 4) -> Transitions:
    """Transitions numbered from ``first``; every field tells the number."""
    number = torch.arange(first, first + count)
    obs = number.to(torch.uint8).view(-1, 1, 1, 1).expand(count, 3, canvas, canvas)
    view = View(number, number + 100, number + 200, number % 3, number % 2 == 1)
    action = (number / 1000).view(-1, 1, 1).expand(count, *ACTION)
    return Transitions(obs, 255 - obs, action, view, number % 5)


def _by_hand(capacity: int = 5, stratified: bool = True) -> PrioritizedReplay:
    """Four items whose probabilities are 0.1, 0.2, 0.4 and 0.3.

    |error| + 0.25 is 0.25, 1, 4 and 2.25; to the power 0.5 that is 0.5, 1, 2 and 1.5, in all 5.
    """
    replay = PrioritizedReplay(capacity, 4, ACTION, alpha=0.5, epsilon=0.25, stratified=stratified)
    replay.add(_transitions(4))
    replay.update_priorities(torch.arange(4), torch.tensor([0.0, 0.75, -3.75, 2.0]))
    return replay


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 7, 8, 100, 1000])
def test_the_tree_finds_the_leaves_that_cumulative_sums_give(capacity: int) -> None:
    priorities = np.random.default_rng(capacity).random(capacity) + 0.01
    tree = SumTree(capacity)
    tree.set(torch.arange(capacity), torch.from_numpy(priorities))
    cumulative = priorities.cumsum()
    assert tree.total.item() == pytest.approx(cumulative[-1])
    masses = np.random.default_rng(1).random(500) * cumulative[-1]
    found = tree.find(torch.from_numpy(masses)).numpy()
    assert (found == np.searchsorted(cumulative, masses, side="right")).all()
    assert tree.find(torch.from_numpy(cumulative - priorities / 2)).tolist() == list(range(capacity))


def test_setting_some_leaves_keeps_the_others_and_updates_the_sums() -> None:
    tree = SumTree(6)
    tree.set(torch.arange(6), torch.tensor([1.0, 2, 3, 4, 5, 6]))
    tree.set(torch.tensor([5, 1]), torch.tensor([0.5, 10.0]))
    assert tree[torch.arange(6)].tolist() == [1, 10, 3, 4, 5, 0.5]
    assert tree.total.item() == 23.5
    assert tree.find(torch.tensor([0.0, 0.99, 1, 10.99, 11, 18, 23, 23.49])).tolist() == [0, 0, 1, 1, 2, 4, 5, 5]


def test_leaves_without_priority_are_never_found() -> None:
    tree = SumTree(1000)
    priorities = torch.rand(1000, generator=_rng(), dtype=torch.float64) * 1e-3
    priorities[torch.rand(1000, generator=_rng(1)) < 0.5] = 0
    priorities[700:] = 0
    tree.set(torch.arange(1000), priorities)
    total = tree.total.item()
    masses = torch.rand(20000, generator=_rng(2), dtype=torch.float64) * total
    edges = torch.tensor([0.0, np.nextafter(total, 0), total, total * (1 + 1e-9)], dtype=torch.float64)
    assert tree[tree.find(torch.cat([masses, edges]))].min() > 0


def test_sums_are_kept_in_double_precision() -> None:
    # In float32, 1e8 + 1 is 1e8: the small leaves would vanish from the total.
    tree = SumTree(5)
    tree.set(torch.arange(5), torch.tensor([1e8, 1, 1, 1, 1]))
    assert tree.total.item() == 1e8 + 4
    assert tree.find(1e8 + torch.arange(4, dtype=torch.float64) + 0.5).tolist() == [1, 2, 3, 4]


def test_an_empty_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        SumTree(0)


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_transitions_come_back_as_they_went_in(kind: str) -> None:
    replay = build_replay(kind, 7, 4, ACTION, torch.device("cpu"), PER)
    assert replay.prioritized == (kind == "prioritized")
    replay.add(_transitions(6))
    replay.add(_transitions(3, first=6))  # wraps: 7 and 8 take the places of 0 and 1
    assert (replay.size, replay.cursor) == (7, 2)
    got = replay.sample(200, _rng()).transitions
    number = got.view.image
    assert set(number.tolist()) == set(range(2, 9))
    expected = _transitions(9)
    for name in ("obs", "next_obs", "action", "step"):
        assert getattr(got, name).dtype == getattr(expected, name).dtype
        assert torch.equal(getattr(got, name), getattr(expected, name)[number])
    for name in ("top", "left", "level", "flip"):
        assert torch.equal(getattr(got.view, name), getattr(expected.view, name)[number])


def test_an_unknown_kind_of_replay_is_an_error() -> None:
    with pytest.raises(ParamsError, match=r"'rank'.*prioritized"):
        build_replay("rank", 7, 4, ACTION, torch.device("cpu"), PER)


def test_uniform_sampling_is_uniform_over_the_filled_part_with_equal_weights() -> None:
    replay = UniformReplay(10, 4, ACTION)
    replay.add(_transitions(4))
    sample = replay.sample(8000, _rng())
    assert _chi_square(sample.indices, torch.full((4,), 0.25)) < 16.3  # 0.1% of chi-square with 3 degrees of freedom
    assert sample.weights.tolist() == [1.0] * 8000


def test_probabilities_are_priorities_to_the_power_alpha() -> None:
    replay = _by_hand()
    assert replay.tree[torch.arange(4)].tolist() == pytest.approx([0.5, 1, 2, 1.5])
    # Ten equal parts of the total 5: the first is item 0's, the next two item 1's, and so on.
    assert replay.sample(10, _rng()).indices.tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("beta", "weights"), [(1.0, [1, 0.5, 0.25, 1 / 3]), (0.5, [1, 0.7071, 0.5, 0.57735]), (0.0, [1] * 4)]
)
def test_weights_undo_the_sampling(beta: float, weights: list[float]) -> None:
    # 1 / (4 P) is 2.5, 1.25, 0.625 and 0.8333; over the largest, 2.5, and to the power beta.
    sample = _by_hand().sample(10, _rng(), beta)
    assert sample.weights.dtype == torch.float32
    assert sample.weights.tolist() == pytest.approx([weights[i] for i in sample.indices.tolist()], abs=1e-4)


def test_weights_are_relative_to_the_largest_of_the_batch() -> None:
    replay, rng = _by_hand(), _rng()
    singles = [replay.sample(1, rng) for _ in range(20)]
    assert len({sample.indices.item() for sample in singles}) > 1
    assert [sample.weights.item() for sample in singles] == [1.0] * 20


def test_single_draws_follow_the_probabilities() -> None:
    replay, rng = _by_hand(), _rng()
    indices = torch.cat([replay.sample(1, rng).indices for _ in range(3000)])
    assert _chi_square(indices, torch.tensor([0.1, 0.2, 0.4, 0.3])) < 16.3


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("capacity", [300, 256, 1000])
def test_a_large_buffer_is_sampled_by_its_exact_distribution(capacity: int, stratified: bool) -> None:
    # Priorities over four decades; only the buffer knows alpha and epsilon, so they are worked out apart from it.
    errors = 10 ** (torch.rand(capacity, generator=_rng(1), dtype=torch.float64) * 4 - 3)
    replay = PrioritizedReplay(capacity, 1, ACTION, alpha=0.7, epsilon=1e-3, stratified=stratified)
    replay.add(_transitions(capacity, canvas=1))
    replay.update_priorities(torch.arange(capacity), errors)
    exact = (errors + 1e-3) ** 0.7
    exact /= exact.sum()
    rng, draws = _rng(2), 2000
    samples = [replay.sample(96, rng, beta=0.5) for _ in range(draws)]
    indices = torch.cat([sample.indices for sample in samples])
    # Rare items are taken together, so that every class is expected often enough for chi-square to hold.
    groups = (exact.argsort().argsort() // (capacity // 20)).clamp(max=19)
    expected = torch.zeros(20, dtype=torch.float64).index_add(0, groups, exact)
    found = _chi_square(groups[indices], expected)
    # 0.1% of chi-square with 19 degrees of freedom; stratified draws stray less than independent ones.
    assert found < 43.8
    if not stratified:
        assert found > 4.0, "independent draws do stray"
    weights = (capacity * exact[samples[0].indices]) ** -0.5
    torch.testing.assert_close(samples[0].weights.double(), weights / weights.max(), rtol=1e-5, atol=0)


def test_strata_are_an_option() -> None:
    independent = _by_hand(stratified=False)
    drawn = {tuple(independent.sample(10, _rng(seed)).indices.tolist()) for seed in range(5)}
    assert len(drawn) == 5, "without strata ten draws are not the same ten each time"


def test_uniform_sampling_of_a_prioritised_buffer_ignores_priorities() -> None:
    sample = _by_hand().sample_uniformly(8000, _rng())
    assert _chi_square(sample.indices, torch.full((4,), 0.25)) < 16.3
    assert sample.weights.min() == sample.weights.max() == 1


def test_new_items_enter_with_the_largest_raw_priority_seen() -> None:
    replay = PrioritizedReplay(5, 4, ACTION, alpha=0.5, epsilon=0.25)
    replay.add(_transitions(3))
    assert replay.tree[torch.arange(4)].tolist() == [1, 1, 1, 0], "before any error the priority is 1"
    replay.update_priorities(torch.arange(3), torch.tensor([0.0, 0.75, 15.75]))
    replay.update_priorities(torch.tensor([2]), torch.tensor([0.0]))  # 16 is now gone but was seen
    replay.add(_transitions(1, first=3))
    # 16^0.5, not (16^0.5)^0.5.
    assert replay.tree[torch.arange(4)].tolist() == pytest.approx([0.5, 1, 0.5, 4])


def test_zero_error_transitions_are_not_sampled_and_scale_no_weights() -> None:
    # Steps are numbers modulo 5, so 4 and 9 end an episode of 5 steps.
    replay = build_replay(
        "prioritized", 16, 4, ACTION, torch.device("cpu"), PER.model_copy(update={"actor_sampling": "uniform"}), 4
    )
    replay.add(_transitions(10))
    replay.update_priorities(torch.arange(10), torch.linspace(0.1, 1.0, 10))
    drawn = replay.sample(4000, _rng(), beta=1.0)
    assert set(drawn.transitions.step.tolist()) == {0, 1, 2, 3}
    assert drawn.weights.max() == 1
    assert set(replay.sample_uniformly(4000, _rng()).transitions.step.tolist()) == {0, 1, 2, 3, 4}


def test_an_actor_that_shares_the_batch_still_gets_zero_error_transitions() -> None:
    replay = build_replay("prioritized", 16, 4, ACTION, torch.device("cpu"), PER, 4)
    replay.add(_transitions(10))
    replay.update_priorities(torch.arange(10), torch.cat([torch.ones(4), torch.zeros(1)]).repeat(2))
    drawn = replay.sample(20000, _rng(), beta=0.5)
    last = drawn.transitions.step == 4
    priority = 1e-3**0.7
    assert last.float().mean().item() == pytest.approx(2 * priority / (8 * 1.001**0.7 + 2 * priority), rel=0.3)
    assert drawn.weights[last].eq(0).all(), "it would multiply an error of 0"
    assert drawn.weights[~last].eq(1).all(), "else theirs would be the largest, and scale these down"


def test_a_batch_of_zero_error_transitions_has_zero_weights() -> None:
    replay = build_replay("prioritized", 4, 4, ACTION, torch.device("cpu"), PER, 4)
    replay.add(_transitions(1, first=4))
    assert replay.sample(3, _rng()).weights.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_a_checkpoint_holds_what_is_filled_and_no_more(kind: str) -> None:
    sizes = []
    for count in (10, 1000):
        replay = build_replay(kind, 1000, 4, ACTION, torch.device("cpu"), PER)
        replay.add(_transitions(count))
        file = io.BytesIO()
        torch.save(replay.state_dict()["columns"], file)
        sizes.append(file.tell())
    assert sizes[0] < 10_000 < sizes[1]


def test_a_state_that_does_not_fit_a_buffer_is_an_error() -> None:
    replay = UniformReplay(8, 4, ACTION)
    replay.add(_transitions(5))
    state = replay.state_dict()
    with pytest.raises(MisfitError, match="it has 5 transitions, and this buffer has room for 4"):
        UniformReplay(4, 4, ACTION).load_state_dict(state)
    with pytest.raises(MisfitError, match=r"before is \(5, 3, 4, 4\) there and \(5, 3, 6, 6\) here"):
        UniformReplay(8, 6, ACTION).load_state_dict(state)
    with pytest.raises(MisfitError, match="it has no flip"):
        columns = {name: value for name, value in state["columns"].items() if name != "flip"}
        UniformReplay(8, 4, ACTION).load_state_dict({**state, "columns": columns})


def test_a_repeated_index_takes_the_largest_of_its_errors() -> None:
    replay = _by_hand()
    replay.update_priorities(torch.tensor([1, 3, 1, 1]), torch.tensor([0.75, 0.0, -8.75, 0.0]))
    assert replay.tree[torch.arange(4)].tolist() == pytest.approx([0.5, 3, 2, 0.5])
    assert replay.tree.total.item() == pytest.approx(6)


def test_errors_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 1\)"):
        _by_hand().update_priorities(torch.arange(4), torch.zeros(4, 1))


@pytest.mark.parametrize("kind", [UniformReplay, PrioritizedReplay])
def test_a_restored_buffer_goes_on_as_if_never_stopped(kind: type[UniformReplay]) -> None:
    first, second = kind(6, 4, ACTION), kind(6, 4, ACTION)
    first.add(_transitions(4))
    first.update_priorities(torch.arange(4), torch.tensor([5.0, 0.1, 2.0, 9.0]))
    second.load_state_dict(_through_a_file(first.state_dict()))
    drawn = [_go_on(replay) for replay in (first, second)]
    assert drawn[0] == drawn[1]
    assert torch.equal(*(replay.sample(32, _rng(5)).weights for replay in (first, second)))


def _go_on(replay: UniformReplay) -> list[int]:
    """Numbers of the transitions that a fixed sequence of additions, updates and draws gives."""
    rng = _rng(3)
    early = replay.sample(32, rng)
    replay.update_priorities(early.indices, torch.linspace(0, 1, 32))
    replay.add(_transitions(3, first=4))
    late = replay.sample(32, rng)
    return [*early.transitions.view.image.tolist(), *late.transitions.obs[:, 0, 0, 0].tolist()]


def _chi_square(indices: Tensor, probability: Tensor) -> float:
    expected = probability.double() * len(indices)
    counts = torch.bincount(indices, minlength=len(probability)).double()
    return float(((counts - expected).square() / expected).sum())
