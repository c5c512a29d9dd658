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
lpaint.cli.main(sys.argv[1:])
"""


def test_painting_needs_nothing_that_windows_lacks(picture: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        AS_ON_WINDOWS,
        "paint",
        str(picture),
        "--strokes",
        "5",
        "-o",
        "a.png",
        "-o",
        "a.mp4",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "pipeline")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").exists() and (tmp_path / "a.mp4").exists()
