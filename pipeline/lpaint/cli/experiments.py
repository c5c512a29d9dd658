"""Commands about training: what can be chosen, how fast it runs, and how tracked runs compare."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.models import TrackingUri
from lpaint.cli.options import AsJson, show_table
from lpaint.cli.streams import print_stderr, print_stdout
from lpaint.errors import ParamsError

track_app = typer.Typer(help="Import tracked runs.", no_args_is_help=True, rich_markup_mode="rich")


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


def strokes(as_json: AsJson = False) -> None:
    """List the stroke families (stroke.family) and the meaning of their numbers."""
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
        print_stdout(json.dumps(described, indent=2))
        return
    for family in families:
        print_stdout(f"{family.name}: {family.summary}; {family.parameters} numbers, the last three red, green, blue")
        for parameter in family.shape:
            print_stdout(f"  {parameter.name:<9}{parameter.meaning}")


def gans(as_json: AsJson = False) -> None:
    """List the discriminators that can reward the agent (agent.gan)."""
    from lpaint.gan import gan_summaries

    show_table({"none": "no discriminator: the L2 reward alone", **gan_summaries()}, as_json)


def bench(
    what: Annotated[Benchmark, typer.Argument(help="What to measure.")],
    profile: Annotated[
        str | None, typer.Option(help="Use the sizes of a profile.  \\[default: those of params.yaml]")
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Timed repetitions; the median is reported.")] = 5,
    images: Annotated[
        int | None,
        typer.Option("--pictures", metavar="N", min=64, help="prepare: number of pictures.  \\[default: 2000]"),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(help="paint: the trained agent.  \\[default: exports/actor.onnx]", metavar="FILE")
    ] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the figures to a JSON file.")] = None,
    old_save: Annotated[Path | None, typer.Option("--json", hidden=True)] = None,
) -> None:
    """Measure speed: an update, a painting, the rasteriser, the replay buffer, GANs, preparation, or a busy machine."""
    from lpaint.runtime.params import load_params
    from lpaint.runtime.profiles import params_with_profile
    from lpaint.training.device import choose_compute

    for name, given, benchmark in (("--pictures", images, Benchmark.prepare), ("--onnx", onnx, Benchmark.paint)):
        if given is not None and what is not benchmark:
            raise ParamsError(f"{name} is for bench {benchmark}, not for bench {what}; leave it out")
    if old_save is not None:
        print_stderr("warning: bench --json FILE is now --save FILE; the next release drops the old name")
    params = params_with_profile(Path(), profile) if profile is not None else load_params(Path("params.yaml"))
    compute = choose_compute(params.base)
    if what is Benchmark.train:
        from lpaint.bench.training import bench_training

        report = bench_training(params, compute, repeats)
    elif what is Benchmark.paint:
        from lpaint.bench.painting import bench_painting
        from lpaint.runtime.artifacts import ACTOR_ONNX

        report = bench_painting(onnx or ACTOR_ONNX, params.base.device, params.base.threads, repeats)
    elif what is Benchmark.render:
        from lpaint.bench.rendering import bench_rendering

        report = bench_rendering(compute, repeats)
    elif what is Benchmark.replay:
        from lpaint.bench.replay import bench_replay

        report = bench_replay(params.agent.per, compute, repeats)
    elif what is Benchmark.gans:
        from lpaint.bench.gans import bench_gans

        report = bench_gans(params, compute, repeats)
    elif what is Benchmark.contention:
        from lpaint.bench.contention import bench_contention

        report = bench_contention(params, repeats)
    else:
        from lpaint.bench.preparation import bench_preparation

        report = bench_preparation(params, images or 2000)
    for path in (save, old_save):
        if path is not None:
            report.save(path)
    print_stdout(report.table())


def compare(
    by: Annotated[
        str, typer.Option(help="Group by these parameters, comma-separated, e.g. gan,agent.horizon.")
    ] = "gan,replay",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM=VALUE", help="Only trainings with this value. May be repeated."),
    ] = None,
    strokes: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Stroke budget to evaluate at.  \\[default: 100, or the largest in common]"
        ),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--levels",
            help="Count updates until the validation L2 reaches these, e.g. 0.02,0.01.  \\[default: by the runs]",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report, plots and sheet.", metavar="DIR")] = Path(
        "reports/compare"
    ),
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Format of the report. May be repeated.  \\[default: all]"),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare tracked trainings: tables, plots and a sheet of paintings, by GAN and replay or other parameters."""
    from lpaint.compare.report import FORMATS, compare_trainings

    chosen = tuple(form.value for form in formats or ()) or FORMATS
    names = [name.strip() for name in by.split(",") if name.strip()]
    if not names:
        raise ParamsError("--by: name at least one parameter, e.g. gan")
    conditions, numbers = _conditions(where or []), _thresholds(thresholds)
    print_stdout(compare_trainings(out, tracking_uri, names, conditions, strokes, numbers, chosen))


@track_app.command("import")
def track_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help=".jsonl files from .lpaint/tracking.")],
) -> None:
    """Import runs that were tracked in files (base.tracking: jsonl) into MLflow."""
    from lpaint.tracking.import_runs import import_runs

    for file, run_id, fresh in import_runs(files):
        print_stdout(f"{file}: {'imported as run' if fresh else 'was imported before, as run'} {run_id}")


def _conditions(where: list[str]) -> dict[str, str]:
    conditions = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise ParamsError(f"--where {condition}: give a parameter and its value, e.g. --where gan=sagan")
        conditions[name.strip()] = value.strip()
    return conditions


def _thresholds(text: str | None) -> list[float]:
    try:
        found = [float(part) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise ParamsError(f"--levels {text}: give numbers, e.g. 0.02,0.01") from None
    if any(not threshold > 0 for threshold in found):
        raise ParamsError(f"--levels {text}: give numbers above 0")
    return found
