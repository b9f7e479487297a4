"""Files that are whole or absent: atomic writes, hashes, JSON lines that survive a kill. No torch."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.core.errors import TrainingError

MANIFEST = "manifest.json"


def write_text(path: Path, *, text: str) -> None:
    """Write a file as .tmp, fsync it and rename it, so that a reader sees the old text or the new one."""
    _write_whole(path, parts=[text])


def write_json(path: Path, *, value: object) -> None:
    """`write_text` with an indented JSON value."""
    write_text(path, text=json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, *, values: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically, without holding them all in memory."""
    _write_whole(path, parts=map(json_line, values))


def json_line(value: Mapping[str, Any]) -> str:
    """One line of a JSON-lines file, with its newline."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def append_lines(path: Path, *, values: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines in one write and flush them to the operating system."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write("".join(json_line(value) for value in values))


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; a last line that a killed writer left unfinished is passed over."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def keep_lines(path: Path, *, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a JSON-lines file with only the wanted objects; an unfinished last line goes too."""
    if path.exists():
        write_json_lines(path, values=(value for value in read_json_lines(path) if wanted(value)))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a .tmp name; on leaving, hash, fsync and rename it (replacing an older one).

    Where that fails, on a full disk for one, what was written under the .tmp name is removed.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _finish_folder(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(path)
    temporary.replace(path)
    fsync_folder(path.parent)


def _finish_folder(folder: Path) -> None:
    write_manifest(folder)
    for file in sorted(folder.iterdir()):
        # safetensors writes files that their owner alone may read; the sampling engine may be somebody else.
        file.chmod(0o644)
        fsync_file(file)
    fsync_folder(folder)


def _write_whole(path: Path, *, parts: Iterable[str]) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def write_manifest(folder: Path) -> None:
    """Write manifest.json: the sha256 of every other file of the folder."""
    hashes = {file.name: sha256_of_file(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}
    write_json(folder / MANIFEST, value={"files": hashes})


def damaged_file(folder: Path) -> str | None:
    """The first file that is not as the folder's manifest has it (or the manifest), None when all are."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return MANIFEST
    for name, digest in hashes:
        if not (folder / name).is_file() or sha256_of_file(folder / name) != digest:
            return str(name)
    return None


def sha256_of_file(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_model(folder: Path) -> str:
    """The identity of a model folder: a sha256 over names and hashes of its safetensors files, in name order.

    Raises TrainingError when the folder has no safetensors files.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrainingError(
            f"base model {folder} has no .safetensors file; save its weights as safetensors "
            "(other formats can run code when loaded)"
        )
    lines = "".join(f"{sha256_of_file(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def fsync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(path: Path) -> None:
    """Make a folder's entries (creations and renames in it) durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
