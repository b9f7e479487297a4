"""Folders of weights as tar archives that are made while they are sent: no copy, nothing held in memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE
END = 2 * BLOCK


class DownloadMissing(Exception):
    """What should be downloaded is not there; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    """A tar of the plain files of one folder, below the name `name`."""

    name: str
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Return how many bytes `chunks` gives."""
        return sum(len(self._header(file)) + _padded(file.stat().st_size) for file in self.files) + END

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive in pieces of at most a MiB."""
        for file in self.files:
            yield self._header(file)
            yield from _content(file)
        yield bytes(END)

    def _header(self, file: Path) -> bytes:
        info = tarfile.TarInfo(f"{self.name}/{file.name}")
        info.size, info.mode = file.stat().st_size, 0o644
        return info.tobuf(tarfile.GNU_FORMAT)  # beside POSIX: sizes above 8 GiB


def archive_of(folder: str, *, name: str) -> Archive:
    """Return the archive of a folder that a row names below STUDIO_HOME. Raises DownloadMissing.

    A name that leaves STUDIO_HOME, or a link in the folder, is never followed.
    """
    home = Path(settings.STUDIO_HOME).resolve()
    path = (home / folder).resolve()
    if not folder or not path.is_relative_to(home) or not path.is_dir():
        raise DownloadMissing(f"The files of {name} are not on this machine; restore them from a backup.")
    files = tuple(sorted(file for file in path.iterdir() if file.is_file() and not file.is_symlink()))
    if not files:
        raise DownloadMissing(f"The folder of {name} is empty; restore it from a backup.")
    return Archive(name=name, files=files)


def _content(file: Path) -> Iterator[bytes]:
    size, sent = file.stat().st_size, 0
    with file.open("rb") as stream:
        while chunk := stream.read(min(CHUNK, size - sent)):
            sent += len(chunk)
            yield chunk
    if sent != size:
        raise OSError(f"{file.name} became shorter while it was sent")
    yield bytes(_padded(size) - size)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
