"""The whole chain on digits, house numbers and a folder of photographs, in the forms in which they are distributed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpaint.painting.onnx_model import describe
from tests.helpers.pictures import jpeg, write_mnist, write_svhn
from tests.helpers.tiny import run_chain


def _folder(root: Path) -> Path:
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (root / name).mkdir(parents=True)
        for i in range(6):
            (root / name / f"{i}.JPEG").write_bytes(jpeg(40 * i, 60, 40))
    return root


@pytest.mark.parametrize("source", ["mnist", "svhn", "folder"])
def test_a_chain_ends_in_an_agent(tmp_path: Path, source: str) -> None:
    writers: dict[str, Callable[[Path], object]] = {"mnist": write_mnist, "svhn": write_svhn, "folder": _folder}
    writers[source](tmp_path / "pictures")
    digits = source != "folder"
    agent: dict[str, Any] = {"updates": 4, "updates_per_round": 4, "validation": {"every": 4, "strokes": 4}}
    run_chain(
        tmp_path,
        tracked=False,
        data={"source": source, "path": "pictures", "limit": 0, "size": 16 if digits else 32},
        renderer={"updates": 10},
        agent={**agent, "gan": "none", "zoom": [1] if digits else [1, 2]},
        # Digits as their profiles have it; an episode ends after 6 strokes.
        evaluate={"strokes": [4, 50], "timelapses": 1, "protocol": "episode" if digits else "search"},
    )
    report = json.loads((tmp_path / "reports/evaluation.json").read_text())
    assert list(report["strokes"]) == (["4"] if digits else ["4", "50"])
    summary = json.loads((tmp_path / "data/prepared/summary.json").read_text())
    counts = {"train": 11, "validation": 1, "test": 4} if digits else {"train": 11, "validation": 12, "test": 1}
    assert (summary["source"], summary["splits"]) == (source, counts)
    assert describe(tmp_path / "exports/actor.onnx")["data_source"] == source
    assert describe(tmp_path / "exports/actor.onnx")["protocol"] == ("episode" if digits else "search")
    assert source in (tmp_path / "exports/MODEL_CARD.md").read_text()
