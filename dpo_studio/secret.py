"""The key that signs sessions: made once per STUDIO_HOME, readable by its owner only."""

import os
import secrets
from pathlib import Path


def ensure_secret_key(home: Path) -> str:
    """Return the key kept in `home`, making it when there is none. Safe when several processes start at once."""
    path = home / "secret_key"
    if not path.exists():
        draft = home / f"secret_key.{os.getpid()}.tmp"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)  # fails when another process was first; its key then counts
        except FileExistsError:
            pass
        draft.unlink()
    return path.read_text().strip()
