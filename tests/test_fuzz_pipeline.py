"""Damaged parameters, archives, prepared data, weights and checkpoints: an error sentence or a right result."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpaint.data.dataset import PreparedData
from lpaint.data.prepare import prepare
from lpaint.data.sources import open_source_path
from lpaint.data.sources.arrays import ArraySource
from lpaint.errors import DataError, LpaintError, ModelError, ParamsError, TrainingError
from lpaint.runtime.params import load_params
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.weights import load_weights
from tests.helpers.checkpoints import last_state
from tests.helpers.mutations import QUICK, SLOW, Damage, cut, damage, mutated
from tests.helpers.pictures import DEFAULTS, celeba_zip, data_params, jpeg, write_svhn


@contextmanager
def _one_sentence(kind: type[LpaintError]) -> Iterator[None]:
    """What goes wrong within is an error of this kind, on one line."""
    try:
        yield
    except kind as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000, str(error)


@given(damage=damage, cut=cut)
@QUICK
def test_mutated_params(damage: Damage, cut: float, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(mutated(DEFAULTS.read_bytes(), damage, max(cut, 0.6)))
    with _one_sentence(ParamsError):
        load_params(path)


@given(key=st.sampled_from(["seed", "limit", "size", "validation_fraction", "path", "fit"]), text=st.text(max_size=12))
@QUICK
def test_params_run_no_code(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    lines = DEFAULTS.read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"  {key}:"))
    for value in (text, f"!!python/object/apply:os.system ['touch {tmp_path}/ran']", f"!!{text}"):
        path.write_text("\n".join([*lines[:at], f"  {key}: {value}", *lines[at + 1 :]]), encoding="utf-8")
        with _one_sentence(ParamsError):
            load_params(path)
    assert not (tmp_path / "ran").exists()


@given(damage=damage, cut=cut)
@SLOW
def test_mutated_archives(damage: Damage, cut: float, tmp_path: Path) -> None:
    path = celeba_zip(tmp_path / "faces.zip", range(1, 9))
    content = path.read_bytes()
    path.write_bytes(mutated(content, damage, cut))
    params = data_params(source="celeba", path=str(path), max_bad_fraction=0.5)
    with _one_sentence(DataError):
        summary = prepare(params, tmp_path / "prepared")
        data = PreparedData.load(tmp_path / "prepared")
        assert len(data.images) == summary["images"] >= 4 and summary["images"] + summary["bad"] <= 8


@given(damage=damage, cut=cut)
@SLOW
def test_mutated_images_of_a_folder(damage: Damage, cut: float, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir(exist_ok=True)
    for index in range(6):
        content = jpeg(40 * index)
        (folder / f"{index}.jpg").write_bytes(content if index else mutated(content, damage, cut))
    summary = prepare(data_params(source="folder", path=str(folder), max_bad_fraction=0.5), tmp_path / "prepared")
    assert summary["images"] + summary["bad"] == 6 and summary["images"] >= 5


@pytest.mark.parametrize("compressed", [True, False])
@given(damage=damage, cut=cut)
@QUICK
def test_mutated_arrays_of_svhn(compressed: bool, damage: Damage, cut: float, tmp_path: Path) -> None:
    path = write_svhn(tmp_path / "svhn", compressed) / "train_32x32.mat"
    path.write_bytes(mutated(path.read_bytes(), damage, cut))
    with _one_sentence(DataError):
        source = open_source_path("svhn", path.parent)
        assert len(source.names()) == 16 and isinstance(source, ArraySource)
        source.verify()


@pytest.mark.parametrize("name", ["manifest.parquet", "summary.json", "images.npy"])
@given(damage=damage, cut=cut)
@QUICK
def test_mutated_prepared_data(name: str, damage: Damage, cut: float, chain: Path, tmp_path: Path) -> None:
    for file in ("manifest.parquet", "summary.json", "images.npy"):
        (tmp_path / file).write_bytes((chain / "data/prepared" / file).read_bytes())
    # Of the pixels anything is an image; what says how many there are lies in the first bytes.
    places = [(place * (0.002 if name == "images.npy" else 1), value) for place, value in damage]
    (tmp_path / name).write_bytes(mutated((tmp_path / name).read_bytes(), places, cut))
    with _one_sentence(DataError):
        data = PreparedData.load(tmp_path)
        for split in ("train", "validation", "test"):
            assert data.images[data.split(split)].dtype == np.uint8


@given(damage=damage, cut=cut)
@QUICK
def test_mutated_checkpoints(damage: Damage, cut: float, tmp_path: Path) -> None:
    resume = CheckpointManager(tmp_path / "train_agent-0f")
    resume.clear()
    resume.save({"step": 1, "weights": torch.ones(8)})
    resume.save({"step": 2, "weights": torch.ones(8)})
    newest = resume.checkpoints[0]
    content = newest.read_bytes()
    newest.write_bytes(mutated(content, damage, cut))
    state = last_state(resume)
    assert state is not None and state["step"] == (2 if newest.read_bytes() == content else 1)
    resume.checkpoints[1].unlink()
    with _one_sentence(TrainingError):
        assert last_state(resume) is not None and newest.read_bytes() == content


@given(damage=damage, cut=cut)
@QUICK
def test_mutated_weights(damage: Damage, cut: float, chain: Path, tmp_path: Path) -> None:
    content = (chain / "models/actor.safetensors").read_bytes()
    path = tmp_path / "actor.safetensors"
    # What describes the tensors lies at the start.
    path.write_bytes(mutated(content, [(0.1 * place, value) for place, value in damage], max(cut, 0.6)))
    with _one_sentence(ModelError):
        load_weights(path, "train_agent")
