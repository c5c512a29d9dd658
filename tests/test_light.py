"""Painting imports the base install only, and nothing that Windows has not."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# An imitation, on top of this system: libraries are imported as they are, then all is taken away that Windows lacks.
AS_ON_WINDOWS = """
import multiprocessing, os, pkgutil, signal, subprocess, sys, sysconfig, tempfile, types, zoneinfo
import av, numpy, onnxruntime, PIL.Image, typer

sysconfig.get_config_vars()

for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "torch", "pandas", "mlflow", "dvc"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGALRM", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
for name in ("fork", "getuid", "geteuid", "killpg", "getpgid", "setsid", "mkfifo", "fchmod", "uname", "sysconf",
             "sched_getaffinity", "O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)

def open_file(path, *rest, open=os.open, **options):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return open(path, *rest, **options)

os.open = open_file
sys.modules["msvcrt"] = types.SimpleNamespace(LK_LOCK=1, LK_NBLCK=2, LK_UNLCK=0, locking=lambda *_: None)
sys.platform = "win32"

import lpaint.api, lpaint.cli, lpaint.doctor, lpaint.images, lpaint.painting
for package in (lpaint.images, lpaint.painting):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(module.name)
for command in sys.argv[1:]:
    try:
        lpaint.cli.main(command.split())
    except SystemExit as end:
        assert not end.code, command
"""
COMMANDS = (
    "paint picture.png --strokes 5 -o a.png -o a.mp4 -o a.svg -o a.json",
    "render a.json -o b.png --scale 2",
    "animate a.json -o b.gif --seconds 1",
)


def test_painting_needs_nothing_that_windows_lacks(picture: Path, tmp_path: Path) -> None:
    picture.rename(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS, *COMMANDS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "pipeline")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("a.png", "a.mp4", "a.svg", "b.png", "b.gif"):
        assert (tmp_path / name).stat().st_size > 0, name
