"""The versions a result was made with."""

import platform
from importlib.metadata import version

LIBRARIES = ("torch", "transformers", "peft", "safetensors")


def library_versions() -> dict[str, str]:
    """Python's version and those of the libraries that shape the numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
