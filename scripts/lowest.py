"""Print the base dependencies of pyproject.toml at their lower bounds, as constraints for pip: ``make lowest``."""

import tomllib
from pathlib import Path


def lowest(requirement: str) -> str:
    """``name>=version; marker`` as ``name==version; marker``."""
    specifier, semicolon, marker = requirement.partition(";")
    assert ">=" in specifier and "," not in specifier, f"{requirement}: one lower bound is needed"
    return specifier.replace(">=", "==") + semicolon + marker


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print(*map(lowest, project["dependencies"]), sep="\n")
