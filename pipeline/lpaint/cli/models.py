"""``lpaint pull`` and ``lpaint promote``: models in MLflow's registry."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.streams import print_stdout

TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow's store.  \\[default: MLFLOW_TRACKING_URI, or mlflow.db here]", metavar="URI"),
]


def promote(
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Consider this version only.")] = None,
    strokes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Stroke budget at which validation errors are compared.")
    ] = 100,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make the registered model with the least validation L2 the champion, if it beats the present one."""
    from lpaint.tracking.registry import promote as promote_best
    from lpaint.tracking.run_store import RunStore

    print_stdout(promote_best(RunStore(tracking_uri), version, strokes))


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias, such as champion, or a version's number.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write.  \\[default: exports/<NAME>.onnx]"),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Download the ONNX file of a registered model."""
    from lpaint.tracking.registry import pull as pull_model
    from lpaint.tracking.run_store import RunStore

    target = output or Path("exports") / f"{name}.onnx"
    print_stdout(pull_model(RunStore(tracking_uri), name, target))
