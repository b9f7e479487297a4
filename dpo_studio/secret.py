"""The key that signs sessions: made once per STUDIO_HOME, readable by its owner only."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def ensure_secret_key(home: Path) -> str:
    """Return the key kept in `home`, making it when there is none; several processes may start at once."""
    path = home / "secret_key"
    if not path.exists():
        draft = home / f"secret_key.{os.getpid()}.tmp"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        with suppress(FileExistsError):  # another process was first; its key then counts
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
