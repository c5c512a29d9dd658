"""Stage: pack pictures. Writes data/prepared/ (images.npy, manifest.parquet, summary.json, preview.png)."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from lpaint.data.prepare import prepare
from lpaint.params import Params
from lpaint.stage import run_stage
from lpaint.tracking import Tracker

OUT = Path("data/prepared")


def run(params: Params, tracker: Tracker) -> None:
    """Prepare the source that ``params.data`` names."""
    summary = prepare(params, OUT, progress=sys.stderr.isatty())
    counts = {f"data/{split}": count for split, count in summary["splits"].items()}
    tracker.log_metrics({"data/images": summary["images"], "data/bad": summary["bad"], **counts})
    tracker.set_tags({"data.digest": summary["digest"], "data.source": summary["source"]})
    tracker.log_image("preview", np.asarray(Image.open(OUT / "preview.png").convert("RGB")))
    tracker.log_artifact(OUT / "summary.json")
    tracker.log_artifact(OUT / "manifest.parquet")
    print(f"{summary['images']} images packed, {summary['bad']} bad; splits {summary['splits']}")


def main() -> None:
    run_stage("prepare", run, [OUT / "summary.json"])


if __name__ == "__main__":
    main()
