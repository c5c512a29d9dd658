"""The help of every command, at 80 columns and in a pipe."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from lpaint.cli import app

_BOX = re.compile(r"[╭╮╰╯│─]")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, part in getattr(command, "commands", {}).items():
        yield from _commands(part, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _words(text: str) -> str:
    return " ".join(_BOX.sub(" ", text).split())


@pytest.fixture
def show_help(lpaint, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    return lambda path: _ANSI.sub("", lpaint(*path, "--help").out)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_text_whole(show_help, path: tuple[str, ...]) -> None:
    text = show_help(path)
    assert max(map(len, text.splitlines())) <= 80
    words, command = _words(text), COMMANDS[path]
    assert _words(command.help) in words
    for option in command.params:
        if option.help and not option.hidden:
            assert _words(option.help.replace("\\[", "[")) in words, option.name
            assert option.metavar is None or option.metavar in words, option.name


def test_every_default_in_a_help_text_is_escaped() -> None:
    texts = [option.help or "" for command in COMMANDS.values() for option in command.params]
    assert not [text for text in texts if re.search(r"(?<!\\)\[", text)]
    assert sum("\\[default: " in text for text in texts) > 20


def test_commands_and_options_are_in_panels(show_help) -> None:
    text, painting = show_help(()), show_help(("paint",))
    panels: tuple[str, ...] = ("Painting", "Models", "Training and experiments")
    assert re.findall(r"╭─ ([\w -]+?) ─", text) == ["Options", *panels]
    assert text.index("│ paint ") < text.index("│ pull ") < text.index("│ bench ") and "│ replay " not in text
    panels = ("Input", "Output", "Strokes", "Size and look", "Time-lapse", "Pixel art", "Model and device", "Messages")
    assert re.findall(r"╭─ ([\w -]+?) ─", painting) == ["Arguments", "Options", *panels]
    assert "VERSION" in show_help(("promote",)).splitlines()[1]


def test_usage_errors_are_plain_lines(lpaint) -> None:
    outcome = lpaint("paint", "--size")
    assert outcome.code == 2 and "Error: " in outcome.err and not _BOX.search(outcome.err)


def test_help_in_a_pipe_has_no_colours_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from lpaint.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'numpy', 'PIL', 'onnxruntime', 'torch', 'mlflow', 'pydantic'} & set(sys.modules)))\n"
    )
    environment = os.environ | {"COLUMNS": "80", "PYTHONUTF8": "1", "_TYPER_FORCE_DISABLE_TERMINAL": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.endswith("\n[]\n") and "\x1b" not in done.stdout
