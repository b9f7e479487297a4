"""Reading one JSON object strictly: every key is taken once, what is left over is refused by name."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from training.core.errors import ConfigError

_MISSING = object()


def read_json_object(path: Path) -> object:
    """The JSON value of a settings file; raises ConfigError with a sentence for the person who wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; a run directory holds config.json and examples.jsonl"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path.name} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path.name} is nested too deeply to be a configuration") from None


class Section:
    """One JSON object being read; `end` refuses the keys that nobody took."""

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name} = {shown(values)} must be an object with named settings")
        self.name = name
        self._left = dict(values)
        self._known: list[str] = []

    def given(self, key: str) -> bool:
        """Whether the key is there, not taken yet and not null."""
        return self._left.get(key) is not None

    def take(self, key: str, default: object = _MISSING) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is _MISSING:
            raise ConfigError(f"{self._path(key)} is missing")
        return value

    def section(self, key: str) -> "Section":
        return Section(key, self.take(key, {}))

    def text(self, key: str, *, default: object = _MISSING) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self._path(key)} = {shown(value)} must be a text that is not empty")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.take(key, None) if self._left.get(key) is None else self.text(key)

    def boolean(self, key: str, *, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"{self._path(key)} = {shown(value)} must be true or false")
        return value

    def choice(self, key: str, choices: tuple[str, ...], *, default: str) -> str:
        value = self.take(key, default)
        if value not in choices:
            raise ConfigError(
                f"{self._path(key)} = {shown(value)} is not available; available are {', '.join(choices)}"
            )
        return str(value)

    def integer(self, key: str, *, default: int, least: int, most: float = math.inf, usual: str = "") -> int:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{self._path(key)} = {shown(value)} must be a whole number; {usual} is usual")
        self._check_range(key, value, least=least, most=most, usual=usual)
        return value

    def optional_integer(self, key: str, *, least: int, usual: str) -> int | None:
        """A whole number, or None where the key is absent or null."""
        if self._left.get(key) is None:
            return self.take(key, None)  # type: ignore[no-any-return]
        return self.integer(key, default=least, least=least, usual=usual)

    def number(
        self,
        key: str,
        *,
        default: object = _MISSING,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
        usual: str = "",
        label: str | None = None,
    ) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise ConfigError(f"{label or self._path(key)} = {shown(value)} must be a finite number")
        self._check_range(
            key, value, least=least, above=above, below=below, most=most, usual=usual, label=label
        )
        return float(value)

    def end(self, *, context: str = "") -> None:
        if self._left:
            known = context or f"{self.name} knows {', '.join(self._known)}"
            raise ConfigError(f"{self._path(min(self._left))} is not a setting here; {known}")

    def _check_range(
        self,
        key: str,
        value: float,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
        usual: str = "",
        label: str | None = None,
    ) -> None:
        bounds = (
            (value >= least, f"at least {least:g}"),
            (value > above, f"above {above:g}"),
            (value < below, f"below {below:g}"),
            (value <= most, f"at most {most:g}"),
        )
        for holds, wanted in bounds:
            if not holds:
                remedy = f"; {usual} is usual" if usual else ""
                raise ConfigError(f"{label or self._path(key)} = {value:g} must be {wanted}{remedy}")

    def _path(self, key: str) -> str:
        return key if self.name == "config" else f"{self.name}.{key}"


def shown(value: object) -> str:
    """A value as JSON writes it, shortened to fit into a sentence."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _refuse_constant(name: str) -> NoReturn:
    raise ConfigError(f"config.json holds {name}, which is not a number that a setting can have")
