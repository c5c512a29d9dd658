"""Commands about the training: what there is to choose from, how fast it is, and how its runs compare."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import show_table
from lpaint.cli.streams import say
from lpaint.errors import ParamsError

track_app = typer.Typer(help="Tracked runs.", no_args_is_help=True, rich_markup_mode=None)


class Benchmark(StrEnum):
    """What ``lpaint bench`` measures."""

    train = "train"
    paint = "paint"
    render = "render"
    replay = "replay"
    gans = "gans"
    prepare = "prepare"
    contention = "contention"


class Format(StrEnum):
    """How ``lpaint compare`` writes its report."""

    md = "md"
    html = "html"
    json = "json"


TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow's store.  [default: MLFLOW_TRACKING_URI, or mlflow.db here]", metavar="URI"),
]


def strokes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the stroke families (stroke.family) and what their numbers mean."""
    from lpaint.strokes import family_names, get_family

    families = [get_family(name) for name in family_names()]
    if as_json:
        described = {
            family.name: {
                "summary": family.summary,
                "shape": {parameter.name: parameter.meaning for parameter in family.shape},
            }
            for family in families
        }
        say(json.dumps(described, indent=2))
        return
    for family in families:
        say(f"{family.name}: {family.summary}; {family.parameters} numbers, the last three red, green, blue")
        for parameter in family.shape:
            say(f"  {parameter.name:<9}{parameter.meaning}")


def gans(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the discriminators that may reward the agent (agent.gan)."""
    from lpaint.gan import gan_summaries

    show_table({"none": "no discriminator: the L2 reward alone", **gan_summaries()}, as_json)


def bench(
    what: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    profile: Annotated[
        str | None, typer.Option(help="Measure at the sizes of a profile.  [default: of params.yaml]")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repetitions, of which the median counts.")] = 5,
    pictures: Annotated[int | None, typer.Option(min=64, help="prepare: how many pictures.  [default: 2000]")] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="paint: the trained agent.  [default: exports/actor.onnx]", metavar="FILE")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Measure speed: training, painting, drawing strokes, replay, GANs, preparation, or training on a busy machine."""
    from lpaint.runtime.params import load_params
    from lpaint.runtime.profiles import params_with_profile
    from lpaint.training.device import choose_compute

    for name, given, place in (("--pictures", pictures, Benchmark.prepare), ("--onnx", onnx, Benchmark.paint)):
        if given is not None and what is not place:
            raise ParamsError(f"{name} is for bench {place}, not for bench {what}; leave it out")
    params = params_with_profile(Path(), profile) if profile is not None else load_params(Path("params.yaml"))
    compute = choose_compute(params.base)
    if what is Benchmark.train:
        from lpaint.bench.training import bench_training

        report = bench_training(params, compute, repeats)
    elif what is Benchmark.paint:
        from lpaint.bench.painting import bench_painting

        report = bench_painting(onnx or Path("exports/actor.onnx"), params.base.device, params.base.threads, repeats)
    elif what is Benchmark.render:
        from lpaint.bench.rendering import bench_rendering

        report = bench_rendering(compute, repeats)
    elif what is Benchmark.replay:
        from lpaint.bench.replaying import bench_replay

        report = bench_replay(params.agent.per, compute, repeats)
    elif what is Benchmark.gans:
        from lpaint.bench.gans import bench_gans

        report = bench_gans(params, compute, repeats)
    elif what is Benchmark.contention:
        from lpaint.bench.contention import bench_contention

        report = bench_contention(params, repeats)
    else:
        from lpaint.bench.preparing import bench_preparing

        report = bench_preparing(params, pictures or 2000)
    if json_file is not None:
        report.save(json_file)
    say(report.table())


def compare(
    by: Annotated[
        str, typer.Option(help="Parameters whose values make the groups, comma-separated, e.g. gan,agent.horizon.")
    ] = "gan,replay",
    where: Annotated[
        list[str] | None, typer.Option(metavar="PARAM=VALUE", help="Only trainings with this value; may be repeated.")
    ] = None,
    strokes: Annotated[
        int | None, typer.Option(min=1, help="Stroke budget to judge at.  [default: 100, or the largest in common]")
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(help="Validation L2s whose reaching is timed, e.g. 0.02,0.01.  [default: by the runs]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of report, plots and sheet.", metavar="DIR")] = Path(
        "reports/compare"
    ),
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="How to write the report; may be repeated.  [default: all]")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare tracked trainings: tables, plots and a sheet of paintings, grouped by GAN and replay or as you say."""
    from lpaint.compare.report import FORMATS
    from lpaint.compare.report import compare as compare_runs

    chosen = tuple(form.value for form in formats or ()) or FORMATS
    names = [name.strip() for name in by.split(",") if name.strip()]
    if not names:
        raise ParamsError("--by: name at least one parameter, e.g. gan")
    say(compare_runs(out, tracking_uri, names, _conditions(where or []), strokes, _numbers(levels), chosen))


def promote(
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Consider this one only.")] = None,
    strokes: Annotated[int, typer.Option(min=1, help="Stroke budget at which validation errors are compared.")] = 100,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make the registered model with the least validation L2 the champion, if it beats the present one."""
    from lpaint.tracking.registry import promote as promote_best
    from lpaint.tracking.run_store import RunStore

    say(promote_best(RunStore(tracking_uri), version, strokes))


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias, such as champion, or a version's number.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.  [default: exports/<NAME>.onnx]")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the ONNX file of a registered model."""
    from lpaint.tracking.registry import pull as pull_model
    from lpaint.tracking.run_store import RunStore

    target = output or Path("exports") / f"{name}.onnx"
    say(pull_model(RunStore(tracking_uri), name, target))


@track_app.command("import")
def track_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Runs in .lpaint/tracking, as .jsonl.")],
) -> None:
    """Bring runs that were tracked in files (base.tracking: jsonl) into MLflow."""
    from lpaint.tracking.import_runs import import_runs

    for file, run_id, fresh in import_runs(files):
        say(f"{file}: {'imported as run' if fresh else 'was imported before, as run'} {run_id}")


def _conditions(where: list[str]) -> dict[str, str]:
    conditions = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise ParamsError(f"--where {condition}: give a parameter and its value, e.g. --where gan=sagan")
        conditions[name.strip()] = value.strip()
    return conditions


def _numbers(levels: str | None) -> list[float]:
    try:
        found = [float(level) for level in (levels or "").split(",") if level.strip()]
    except ValueError:
        raise ParamsError(f"--levels {levels}: give numbers, e.g. 0.02,0.01") from None
    if any(not level > 0 for level in found):
        raise ParamsError(f"--levels {levels}: an L2 is above 0")
    return found
