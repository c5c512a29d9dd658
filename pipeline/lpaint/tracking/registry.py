"""The best trained agent, by name: which registered model is the champion, and how to get it.

The champion is chosen by its error on the validation split, as the evaluation measured it. The test split takes no part
in choosing, so that its figures say how good what was chosen is.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from lpaint.errors import ModelError
from lpaint.files import atomic_write
from lpaint.tracking.base import FINAL_VALIDATION
from lpaint.tracking.reading import CHAMPION, RegisteredVersion, RunStore


def promote(store: RunStore, version: str | None = None, strokes: int = 100) -> str:
    """Give the alias ``champion`` to the registered model of least validation L2, if it beats the champion's.

    Versions without a validation figure (evaluated by an earlier lpaint, or not at so many strokes) are no candidates.

    Args:
        store: the tracked runs and registered models.
        version: the only one to consider; None = all.
        strokes: the stroke budget at which validation errors are compared.

    Returns:
        What happened, and which versions were no candidates.

    Raises:
        ModelError: there is no such version, or none with a validation L2 at so many strokes, or the champion learnt on
            data that no candidate was judged on.
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
    asked = versions if champion is None or champion in versions else [champion, *versions]
    unjudged = [each.version for each in asked if each not in scores and (each != champion or to_beat is None)]
    if to_beat is not None:
        scores = {each: score for each, score in scores.items() if score[1] == to_beat[1]}
    if not scores:
        same = " on the champion's data" if to_beat is not None else ""
        raise ModelError(
            f"no registered model has a validation L2 at {strokes} strokes{same}; try another --strokes, or judge a "
            "model by `dvc repro -f evaluate`"
        )
    note = f"; {_unjudged(unjudged, strokes)}" if unjudged else ""
    best, (error, _) = min(scores.items(), key=lambda item: item[1][0])
    if to_beat is not None and champion is not None and error >= to_beat[0]:
        kept = f"validation L2 {to_beat[0]:.5f} at {strokes} strokes is not beaten"
        return f"version {champion.version} stays champion: {kept}{note}"
    store.set_alias(CHAMPION, best.version)
    before = "" if champion is None or to_beat is None else f"; version {champion.version} had {to_beat[0]:.5f}"
    return f"version {best.version} is champion: validation L2 {error:.5f} at {strokes} strokes{before}{note}"


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
        with atomic_write(output) as temporary:
            shutil.copyfile(file, temporary)
    return f"{output}: version {found.version}, trained by run {found.run_id}"


def _unjudged(versions: list[str], strokes: int) -> str:
    many = len(versions) > 1
    which = f"version{'s' if many else ''} {', '.join(versions)} {'have' if many else 'has'}"
    return f"{which} no validation figure at {strokes} strokes and {'are no candidates' if many else 'is no candidate'}"


def _error(store: RunStore, version: RegisteredVersion, strokes: int) -> tuple[float, str] | None:
    """Validation L2 of a version at so many strokes and the digest of its data; None where its run does not tell."""
    run, metric = store.run(version.run_id), f"{FINAL_VALIDATION}/l2"
    if run is None or metric not in run.metrics:
        return None
    error = dict(store.history(run.run_id, metric)).get(strokes)
    return None if error is None else (error, run.tags.get("data.digest", ""))
