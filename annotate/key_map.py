"""The keys of the labelling screen: what each does, its usual key, and a person's own. Pure."""

from dataclasses import dataclass

# action → (usual key, what it does). The order is that of the help and of the profile page.
ACTIONS: dict[str, tuple[str, str]] = {
    "left": ("1", "A is better"),
    "right": ("2", "B is better"),
    "tie": ("0", "Tie"),
    "both_bad": ("b", "Both are bad"),
    "submit": ("Enter", "Submit the chosen verdict"),
    "skip": ("Space", "Skip; the pair does not come back unless you ask for it"),
    "undo": ("z", "Undo the last label, skip or flag; again for the one before"),
    "rationale": ("r", "Write why"),
    "edit": ("e", "Write a better version of a response"),
    "flag": ("f", "Flag the pair, with a reason"),
    "diff": ("d", "Show which words differ"),
    "raw": ("m", "Show the text as it was written, or as Markdown"),
    "guidelines": ("g", "Guidelines"),
    "history": ("h", "Your labels so far"),
    "help": ("?", "These keys"),
}
NAMED_KEYS = ("Enter", "Space", "Backspace", "Delete", "Insert")
# These move and grade on the screen, whatever else is remapped.
FIXED_KEYS = ("ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Tab", "Escape", "PageUp", "PageDown")


@dataclass(frozen=True)
class KeyProblem:
    """What is wrong with the key of one action."""

    action: str
    sentence: str


def keys_of(own: dict[str, str]) -> dict[str, str]:
    """Return action → key, with the person's own keys in place of the usual ones."""
    return {action: own.get(action) or usual for action, (usual, _) in ACTIONS.items()}


def key_help(own: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return (action, key, what it does) of each key, for the list of keys."""
    keys = keys_of(own)
    return [(action, keys[action], name) for action, (_, name) in ACTIONS.items()]


def own_keys(chosen: dict[str, str]) -> dict[str, str]:
    """Return only what differs from the usual keys."""
    return {action: key for action, key in chosen.items() if action in ACTIONS and key != ACTIONS[action][0]}


def key_problems(chosen: dict[str, str]) -> list[KeyProblem]:
    """Return what is wrong with a full choice of keys: keys that cannot be, and keys given twice."""
    problems = [
        KeyProblem(action, f"“{key}” cannot be a key; press a letter, a digit, a sign, Enter or Space.")
        for action, key in chosen.items()
        if not is_possible(key)
    ]
    first: dict[str, str] = {}
    for action, key in chosen.items():
        if key in first:
            other = ACTIONS[first[key]][1]
            problems.append(KeyProblem(action, f"“{key}” is taken by “{other}”; choose another key."))
        first.setdefault(key, action)
    return problems


def is_possible(key: str) -> bool:
    """Whether a key can be remapped to: one printable character, or one of a few named ones."""
    return key in NAMED_KEYS or (len(key) == 1 and key.isprintable() and not key.isspace())
