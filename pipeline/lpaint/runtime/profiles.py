"""Profiles: overlays in ``profiles/`` that are merged into ``params.yaml``, comments kept."""

import difflib
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lpaint.errors import ParamsError, one_line
from lpaint.files import write_text
from lpaint.runtime.params import Params, known_keys, parse_params

# The profile that holds params.yaml as committed, as far as profiles change it.
DEFAULT = "default"
# Share of a profile's values that tells that it was applied; somebody may have changed the others since.
_IN_FORCE = 0.75


def list_profiles(root: Path) -> list[tuple[str, str]]:
    """Name and first comment line of every profile in ``root``/profiles.

    Raises:
        ParamsError: ``root`` is no lpaint repository.
    """
    return [(path.stem, _first_comment(path)) for path in sorted(_folder(root).glob("*.yaml"))]


def show_profile(root: Path, name: str) -> str:
    """The text of a profile.

    Raises:
        ParamsError: there is no such profile.
    """
    return _path(root, name).read_text(encoding="utf-8")


def apply_profile(root: Path, name: str) -> list[str]:
    """Merge a profile into ``root``/params.yaml; returns ``key: old -> new`` for every value that changed.

    A profile that is in force is undone first: its values go back to those of the profile ``default``. What somebody
    changed since stays.

    Raises:
        ParamsError: no such profile, a key that params.yaml does not have, or an invalid result; the file is unchanged.
    """
    text, _, changes = _merged(root, name)
    write_text(root / "params.yaml", text)
    return changes


def params_with(root: Path, name: str) -> Params:
    """``root``/params.yaml as the profile would make it; the file stays as it is.

    Raises:
        ParamsError: as ``apply_profile``.
    """
    return _merged(root, name)[1]


def _merged(root: Path, name: str) -> tuple[str, Params, list[str]]:
    """params.yaml with a profile: its text, comments kept, what it means, and what changed."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    target, origin = root / "params.yaml", f"profiles/{name}.yaml"
    overlay = _sections(YAML(typ="safe", pure=True), _path(root, name), origin)
    params = _sections(yaml, target, str(target))
    undone = _undone(root, name, params)
    _merge(undone, overlay, origin, "", [])
    changes: list[str] = []
    _merge(params, undone, origin, "", changes)
    text = io.StringIO()
    yaml.dump(params, text)
    values = YAML(typ="safe", pure=True).load(text.getvalue())
    return text.getvalue(), parse_params(values, f"params.yaml with profile {name}"), changes


def _sections(yaml: YAML, path: Path, origin: str) -> Any:
    """The mapping in a YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run this in the root of an lpaint repository") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ParamsError(f"{origin}: is no YAML ({one_line(error)}); mend the file") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{origin}: holds no sections; it must have keys of params.yaml, such as agent")
    return values


def _merge(params: Any, overlay: dict[str, Any], origin: str, prefix: str, changes: list[str]) -> None:
    for key, value in overlay.items():
        if key not in params and f"{prefix}{key}" not in known_keys():
            near = difflib.get_close_matches(str(key), list(params), n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else "; correct its name"
            raise ParamsError(f"{origin}: unknown key {prefix}{key}{hint}")
        if isinstance(value, dict) and isinstance(params.get(key), dict):
            _merge(params[key], value, origin, f"{prefix}{key}.", changes)
        elif key not in params:
            # The file is older than the key.
            changes.append(f"{prefix}{key}: none -> {_plain(value)}")
            params[key] = value
        elif params[key] != value:
            changes.append(f"{prefix}{key}: {_plain(params[key])} -> {_plain(value)}")
            if isinstance(value, list) and isinstance(params[key], list):
                # In place, so that the comment that hangs on the list stays.
                params[key][:] = value
                if hasattr(params[key], "fa"):
                    # An empty list has no style of its own, and the other one puts its comment in the wrong place.
                    params[key].fa.set_flow_style()
            else:
                params[key] = value


def _undone(root: Path, name: str, params: Any) -> dict[str, Any]:
    """What undoes the other profiles that are in force in ``params``: defaults for the values that they set."""
    yaml = YAML(typ="safe", pure=True)
    overlays = {path.stem: _sections(yaml, path, f"profiles/{path.name}") for path in _folder(root).glob("*.yaml")}
    overlays.pop(name, None)
    defaults = _leaves(overlays.pop(DEFAULT, {}))
    now = _leaves(params)
    undone: dict[str, Any] = {}
    for overlay in map(_leaves, overlays.values()):
        own = {key: value for key, value in overlay.items() if value != defaults.get(key, value)}
        kept = [key for key, value in own.items() if now.get(key) == value]
        if len(kept) >= _IN_FORCE * len(own):
            for key in kept:
                *path, last = key
                section = undone
                for part in path:
                    section = section.setdefault(part, {})
                section[last] = defaults[key]
    return undone


def _leaves(section: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Values of nested sections by their path."""
    if not isinstance(section, dict):
        return {path: section}
    return {key: leaf for name, value in section.items() for key, leaf in _leaves(value, (*path, name)).items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _folder(root: Path) -> Path:
    folder = root / "profiles"
    if not folder.is_dir():
        raise ParamsError(f"{folder}: there is no such folder; run this in the root of an lpaint repository")
    return folder


def _path(root: Path, name: str) -> Path:
    folder = _folder(root)
    known = [path.stem for path in sorted(folder.glob("*.yaml"))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ParamsError(f"there is no profile {name!r}; {hint}the known ones are {', '.join(known)}")
    return folder / f"{name}.yaml"


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[:1]
    return first[0].removeprefix("#").strip() if first else ""
