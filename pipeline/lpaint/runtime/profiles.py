"""Profiles: YAML files in ``profiles/`` that are merged into ``params.yaml``, which keeps its comments."""

import difflib
import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lpaint.errors import ParamsError, one_line
from lpaint.files import write_text
from lpaint.runtime.params import Params, known_keys, parse_params

# This profile holds the committed values of all parameters that other profiles change.
_DEFAULT = "default"
# A profile counts as applied if params.yaml has this share of its values; the user may have changed the others.
_APPLIED_SHARE = 0.75


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

    Values of a profile applied before are first reset to those of the profile ``default``. Values that the user has
    changed since stay.

    Raises:
        ParamsError: no such profile, a key that params.yaml does not have, or an invalid result; the file is unchanged.
    """
    text, _, changes = _merge_profile(root, name)
    write_text(root / "params.yaml", text)
    return changes


def params_with_profile(root: Path, name: str) -> Params:
    """The parameters that ``root``/params.yaml would hold with the profile applied; the file does not change.

    Raises:
        ParamsError: as ``apply_profile``.
    """
    return _merge_profile(root, name)[1]


def _merge_profile(root: Path, name: str) -> tuple[str, Params, list[str]]:
    """params.yaml with a profile: its text with comments, its parameters, and the list of changes."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    target, origin = root / "params.yaml", f"profiles/{name}.yaml"
    overlay = _load_sections(YAML(typ="safe", pure=True), _path(root, name), origin)
    params = _load_sections(yaml, target, str(target))
    combined = _resets(root, name, params)
    _merge(combined, overlay, origin, "", [])
    changes: list[str] = []
    _merge(params, combined, origin, "", changes)
    text = io.StringIO()
    yaml.dump(params, text)
    values = YAML(typ="safe", pure=True).load(text.getvalue())
    return text.getvalue(), parse_params(values, f"params.yaml with profile {name}"), changes


def _load_sections(yaml: YAML, path: Path, origin: str) -> Any:
    """The mapping in a YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: there is no such file; run this in the root of an lpaint repository") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ParamsError(f"{origin}: is no YAML ({one_line(error)}); repair the file") from None
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
                # In place, so that the comment attached to the list stays.
                params[key][:] = value
                if hasattr(params[key], "fa"):
                    # An empty list has no style of its own, and block style would misplace its comment.
                    params[key].fa.set_flow_style()
            else:
                params[key] = value


def _resets(root: Path, name: str, params: Any) -> dict[str, Any]:
    """Default values that undo the other profiles which ``params`` has applied."""
    yaml = YAML(typ="safe", pure=True)
    overlays = {path.stem: _load_sections(yaml, path, f"profiles/{path.name}") for path in _folder(root).glob("*.yaml")}
    overlays.pop(name, None)
    defaults = _leaves(overlays.pop(_DEFAULT, {}))
    current = _leaves(params)
    resets: dict[str, Any] = {}
    for overlay in map(_leaves, overlays.values()):
        changed = {key: value for key, value in overlay.items() if value != defaults.get(key, value)}
        applied = [key for key, value in changed.items() if current.get(key) == value]
        if len(applied) >= _APPLIED_SHARE * len(changed):
            for key in applied:
                *path, last = key
                section = resets
                for part in path:
                    section = section.setdefault(part, {})
                section[last] = defaults[key]
    return resets


def _leaves(section: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Values of nested sections, by path."""
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
