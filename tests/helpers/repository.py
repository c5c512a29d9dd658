"""A repository of its own for tests that run the chain as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent


class Repository:
    """A fresh repository of this source, in which commands run as in a terminal."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = os.environ | {
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "pipeline"),
            "GIT_AUTHOR_NAME": "tester",
            "GIT_AUTHOR_EMAIL": "tester@example.org",
            "GIT_COMMITTER_NAME": "tester",
            "GIT_COMMITTER_EMAIL": "tester@example.org",
        }
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
            if (ROOT / name).is_file():
                target = root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((ROOT / name).read_bytes())
        self.run("git", "init", "-q", ".")

    def run(self, *command: str, code: int = 0) -> str:
        """Standard output and errors of a command that must end with ``code``."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def lpaint(self, *arguments: str, code: int = 0) -> str:
        """The command line on this repository's source."""
        return self.run(sys.executable, "-c", "from lpaint.cli import main; main()", *arguments, code=code)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "state")

    def set(self, section: str, **values: object) -> None:
        """Change params.yaml."""
        yaml = YAML()
        path = self.root / "params.yaml"
        params = yaml.load(path.read_text())
        params[section].update(values)
        with path.open("w") as stream:
            yaml.dump(params, stream)
