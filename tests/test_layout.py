"""Rules of the layout: what each stage depends on, and which package may import which."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "pipeline" / "lpaint"
# Plumbing: how a stage is run, read and reported, not what it computes. An edit need not train anew.
PLUMBING = ("__init__.py", "errors.py", "files.py", "runtime", "tracking")


def _stages() -> dict[str, dict]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def _imported(module: str) -> set[str]:
    """Files of the library that importing ``module`` loads, relative to the library."""
    script = f"import sys, {module}; print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('lpaint')])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {Path(name).relative_to(LIBRARY).as_posix() for name in done.stdout.split()}


# Loaded by every worker of the preparation, this stage imports what it does only when it does it.
LATE = {"prepare": ", lpaint.data.prepare"}


@pytest.mark.parametrize("name", list(_stages()))
def test_editing_a_module_reruns_the_stages_that_use_it(name: str) -> None:
    deps = [Path(dep).relative_to("pipeline/lpaint") for dep in _stages()[name]["deps"] if dep.startswith("pipeline/")]
    assert f"stages/{name}.py" in _stages()[name]["deps"]
    for file in sorted(_imported(f"stages.{name}{LATE.get(name, '')}")):
        covered = any(Path(file).is_relative_to(dep) for dep in deps)
        plumbing = any(Path(file).is_relative_to(part) for part in PLUMBING)
        package = file.endswith("/__init__.py") and not covered
        if not plumbing and not package:
            assert covered, f"dvc.yaml: stage {name} imports {file} but does not list it in deps"
    for dep in deps:
        assert (LIBRARY / dep).exists(), f"dvc.yaml: stage {name} lists {dep}, which is not there"


def test_every_parameter_section_belongs_to_a_stage() -> None:
    named = {param.split(".")[0] for stage in _stages().values() for param in stage["params"]}
    assert named == set(YAML(typ="safe").load((ROOT / "params.yaml").read_text()))


def test_another_protocol_trains_anew() -> None:
    # Training validates by it, and the weights carry it.
    assert {"agent", "evaluate.protocol"} <= set(_stages()["train_agent"]["params"])


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_mlflow_dvc_and_typer_are_known_in_one_place_each() -> None:
    places = {"mlflow": "tracking", "dvc": "compare/experiments.py", "typer": "cli"}
    for path in LIBRARY.rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(path)}
        for library, place in places.items():
            assert library not in roots or path.relative_to(LIBRARY).is_relative_to(place), f"{path}: {library}"


# From the bottom up. A package may import from packages of lower layers and from itself, and from nothing above.
LAYERS = (
    ("errors", "files"),
    ("runtime", "images"),
    ("training",),
    ("strokes", "replay", "metrics", "plots", "painting", "tracking"),
    ("renderer", "gan", "data"),
    ("agent", "compare"),
    ("evaluation", "export", "api"),
    ("bench", "doctor"),
    ("cli",),
)
# `lpaint paint` runs where neither torch nor the packages of the pipeline are installed.
LIGHT = ("errors", "files", "images", "painting", "api")


def _packages() -> set[str]:
    return {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


def _levels() -> dict[str, int]:
    return {name: level for level, names in enumerate(LAYERS) for name in names}


def test_every_package_has_a_layer() -> None:
    assert _packages() - {"__init__", "__main__"} == set(_levels())


@pytest.mark.parametrize("package", sorted(_levels()))
def test_packages_import_from_lower_layers_only(package: str) -> None:
    levels = _levels()
    files = [LIBRARY / f"{package}.py"] if (LIBRARY / f"{package}.py").exists() else (LIBRARY / package).rglob("*.py")
    for path in files:
        for name in _imports(path):
            other = name.split(".")[1] if name.startswith("lpaint.") else package
            assert other == package or levels[other] < levels[package], f"{path} imports {name}"


@pytest.mark.parametrize("package", LIGHT)
def test_painting_needs_the_base_install_only(package: str) -> None:
    for path in LIBRARY.rglob("*.py"):
        if path.relative_to(LIBRARY).parts[0].removesuffix(".py") == package:
            for name in _imports(path):
                assert name.split(".")[0] not in {"torch", "pydantic", "ruamel", "pandas", "mlflow", "dvc"}, path
                assert not name.startswith("lpaint.") or name.split(".")[1] in LIGHT, f"{path} imports {name}"


# Import names that differ from the names of their distributions.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "google": "protobuf",
    "markdown_it": "markdown-it-py",
    "psycopg2": "psycopg2-binary",
    "ruamel": "ruamel.yaml",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
# `lpaint bench render` compares with OpenCV only where it is installed.
OPTIONAL = {"cv2"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(*extras: str) -> set[str]:
    """Distributions of the base install and of ``extras`` in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for name in extras for line in project["optional-dependencies"][name]]
    return {_canonical(re.split(r"[^\w.-]", line)[0]) for line in lines}


def _third_party(path: Path) -> set[str]:
    """Distributions that a file imports directly."""
    roots = {name.split(".")[0] for name in _imports(path)} - sys.stdlib_module_names - OPTIONAL
    own = {"lpaint", "stages", "tests", "benchmarks", *(file.stem for file in path.parent.glob("*.py"))}
    return {_canonical(DISTRIBUTIONS.get(root, root)) for root in roots - own}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("pipeline", ("pipeline", "heic")),
        ("stages", ("pipeline",)),
        ("docs", ("pipeline",)),
        ("benchmarks", ("pipeline", "test", "dev")),
        ("tests", ("pipeline", "test", "dev")),
    ],
)
def test_every_direct_import_is_a_declared_dependency(folder: str, extras: tuple[str, ...]) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        missing = _third_party(path) - _declared(*extras)
        assert not missing, f"{path} imports {', '.join(sorted(missing))}, which pyproject.toml does not declare"


@pytest.mark.parametrize("package", [*LIGHT, "cli"])
def test_light_packages_import_distributions_of_the_base_install_only(package: str) -> None:
    for path in LIBRARY.rglob("*.py"):
        if path.relative_to(LIBRARY).parts[0].removesuffix(".py") == package:
            assert _third_party(path) <= _declared("heic"), path
