"""The best trained agent, by name: which registered model is the champion, and how to get it."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from lpaint.errors import ModelError
from lpaint.files import replacing
from lpaint.tracking.reading import CHAMPION, RegisteredVersion, RunStore


def promote(store: RunStore, version: str | None = None, strokes: int = 100) -> str:
    """Give the alias ``champion`` to the best registered model, if its test L2 beats the champion's; what happened.

    Args:
        store: the tracked runs and registered models.
        version: the only one to consider; None = all.
        strokes: the stroke budget at which test errors are compared.

    Raises:
        ModelError: there is no such version, or none with a test L2 at so many strokes, or the champion learnt on data
            that no candidate was tested on.
    """
    versions = store.versions()
    if version is not None:
        versions = [each for each in versions if each.version == version]
    if not versions:
        which = f"version {version}" if version else "registered model"
        raise ModelError(f"there is no {which} in MLflow; dvc repro registers one (export.register: true)")
    champion = store.alias(CHAMPION)
    to_beat = None if champion is None else _error(store, champion, strokes)
    scores = {each: score for each in versions if (score := _error(store, each, strokes)) is not None}
    if to_beat is not None:
        scores = {each: score for each, score in scores.items() if score[1] == to_beat[1]}
    if not scores:
        same = " on the champion's data" if to_beat is not None else ""
        raise ModelError(f"no registered model has a test L2 at {strokes} strokes{same}; try another --strokes")
    best, (error, _) = min(scores.items(), key=lambda item: item[1][0])
    if to_beat is not None and champion is not None and error >= to_beat[0]:
        return f"version {champion.version} stays champion: test L2 {to_beat[0]:.5f} at {strokes} strokes is not beaten"
    store.set_alias(CHAMPION, best.version)
    before = "" if champion is None or to_beat is None else f"; version {champion.version} had {to_beat[0]:.5f}"
    return f"version {best.version} is champion: test L2 {error:.5f} at {strokes} strokes{before}"


def pull(store: RunStore, name: str, output: Path) -> str:
    """Write the ONNX file of a registered model to ``output``; what was written.

    ``name`` is an alias, such as ``champion``, or a version's number.

    Raises:
        ModelError: there is no such alias or version, or its file is gone.
    """
    found = store.alias(name)
    if found is None:
        found = next((each for each in store.versions() if each.version == name), None)
    if found is None:
        hint = "; lpaint promote makes one" if name == CHAMPION else ""
        raise ModelError(f"no registered model is called {name}{hint}")
    with TemporaryDirectory() as folder:
        file = store.fetch_model(found.version, Path(folder))
        with replacing(output) as temporary:
            shutil.copyfile(file, temporary)
    return f"{output}: version {found.version}, trained by run {found.run_id}"


def _error(store: RunStore, version: RegisteredVersion, strokes: int) -> tuple[float, str] | None:
    """Test L2 of a version at so many strokes and the digest of its data; None where its run does not tell."""
    run = store.run(version.run_id)
    if run is None or "test/l2" not in run.metrics:
        return None
    error = dict(store.history(run.run_id, "test/l2")).get(strokes)
    return None if error is None else (error, run.tags.get("data.digest", ""))
