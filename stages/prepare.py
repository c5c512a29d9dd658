"""Stage: pack images. Writes data/prepared/ (images.npy, manifest.parquet, summary.json, preview.png).

Every worker process loads this module, so it imports what only the parent needs where it is used.
"""

from typing import TYPE_CHECKING

from lpaint.runtime.artifacts import PREPARED_DATA, PREPARED_SUMMARY

if TYPE_CHECKING:
    from lpaint.runtime.params import Params
    from lpaint.tracking import Tracker


def run(params: "Params", tracker: "Tracker") -> None:
    """Prepare the source that ``params.data`` names."""
    from lpaint.data.prepare import prepare_resumably
    from lpaint.images.decoding import open_png

    summary = prepare_resumably(params, PREPARED_DATA)
    counts = {f"data/{split}": count for split, count in summary["splits"].items()}
    tracker.log_metrics({"data/images": summary["images"], "data/bad": summary["bad"], **counts})
    tracker.set_tags({"data.digest": summary["digest"], "data.source": summary["source"]})
    tracker.log_image("preview", open_png(PREPARED_DATA / "preview.png"))
    tracker.log_artifact(PREPARED_SUMMARY)
    tracker.log_artifact(PREPARED_DATA / "manifest.parquet")
    print(f"{summary['images']} images packed, {summary['bad']} bad; splits {summary['splits']}")


def main() -> None:
    from stages.runner import run_stage

    run_stage("prepare", run, [PREPARED_SUMMARY])


if __name__ == "__main__":
    main()
