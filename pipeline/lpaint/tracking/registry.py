"""The model registry: promote the best registered model to ``champion``, and download a model by its alias.

Promotion compares the evaluation's errors on the validation split. The test split is not used for selection, so its
figures measure the selected model without bias.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from lpaint.errors import ModelError
from lpaint.files import atomic_write
from lpaint.tracking.base import FINAL_VALIDATION
from lpaint.tracking.run_store import CHAMPION, RegisteredVersion, RunStore


def promote(store: RunStore, version: str | None = None, strokes: int = 100) -> str:
    """Give the alias ``champion`` to the registered model with the lowest validation L2, if it beats the champion's.

    Versions without that metric (evaluated by an earlier lpaint, or not at this stroke budget) are no candidates.

    Args:
        store: the tracked runs and registered models.
        version: the only candidate; None = all versions.
        strokes: the stroke budget at which validation errors are compared.

    Returns:
        What happened, and which versions were no candidates.

    Raises:
        ModelError: there is no such version, no version has a validation L2 at this stroke budget, or no candidate was
            evaluated on the champion's data.
    """
    versions = store.versions()
    if version is not None:
        versions = [each for each in versions if each.version == version]
    if not versions:
        which = f"version {version}" if version else "registered model"
        raise ModelError(f"there is no {which} in MLflow; dvc repro registers one (export.register: true)")
    champion = store.alias(CHAMPION)
    to_beat = None if champion is None else _validation_error(store, champion, strokes)
    scores = {each: score for each in versions if (score := _validation_error(store, each, strokes)) is not None}
    asked = versions if champion is None or champion in versions else [champion, *versions]
    unscored = [each.version for each in asked if each not in scores and (each != champion or to_beat is None)]
    if to_beat is not None:
        scores = {each: score for each, score in scores.items() if score[1] == to_beat[1]}
    if not scores:
        same = " on the champion's data" if to_beat is not None else ""
        raise ModelError(
            f"no registered model has a validation L2 at {strokes} strokes{same}; try another --strokes, or evaluate a "
            "model by `dvc repro -f evaluate`"
        )
    note = f"; {_format_unscored(unscored, strokes)}" if unscored else ""
    best, (error, _) = min(scores.items(), key=lambda item: item[1][0])
    if to_beat is not None and champion is not None and error >= to_beat[0]:
        kept = f"validation L2 {to_beat[0]:.5f} at {strokes} strokes is not beaten"
        return f"version {champion.version} stays champion: {kept}{note}"
    store.set_alias(CHAMPION, best.version)
    before = "" if champion is None or to_beat is None else f"; version {champion.version} had {to_beat[0]:.5f}"
    return f"version {best.version} is champion: validation L2 {error:.5f} at {strokes} strokes{before}{note}"


def pull(store: RunStore, name: str, output: Path) -> str:
    """Download the ONNX file of a registered model to ``output``; returns what was written.

    ``name`` is an alias, such as ``champion``, or a version number.

    Raises:
        ModelError: there is no such alias or version, or its file is missing.
    """
    found = store.alias(name)
    if found is None:
        found = next((each for each in store.versions() if each.version == name), None)
    if found is None:
        hint = "; lpaint promote makes one" if name == CHAMPION else ""
        raise ModelError(f"no registered model is called {name}{hint}")
    with TemporaryDirectory() as folder:
        file = store.fetch_model(found.version, Path(folder))
        with atomic_write(output) as temporary:
            shutil.copyfile(file, temporary)
    return f"{output}: version {found.version}, trained by run {found.run_id}"


def _format_unscored(versions: list[str], strokes: int) -> str:
    many = len(versions) > 1
    which = f"version{'s' if many else ''} {', '.join(versions)} {'have' if many else 'has'}"
    return f"{which} no validation figure at {strokes} strokes and {'are no candidates' if many else 'is no candidate'}"


def _validation_error(store: RunStore, version: RegisteredVersion, strokes: int) -> tuple[float, str] | None:
    """Validation L2 of a version at a stroke budget, and the digest of its data; None if its run has no such metric."""
    run, metric = store.run(version.run_id), f"{FINAL_VALIDATION}/l2"
    if run is None or metric not in run.metrics:
        return None
    error = dict(store.history(run.run_id, metric)).get(strokes)
    return None if error is None else (error, run.tags.get("data.digest", ""))
