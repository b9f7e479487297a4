"""What people see and decide: studies, prompts, responses, pairs and preferences.

Nothing here knows which policy wrote a response; that lives in `training`, so labelling is blind by
structure.
"""

from annotate.models.audit import AuditEntry
from annotate.models.frozen import FrozenVotes
from annotate.models.labelling import (
    Draft,
    Lease,
    Preference,
    PreferenceRevision,
    Side,
    Skip,
    Undo,
    Verdict,
)
from annotate.models.pairs import Pair, Prompt, Response, Split
from annotate.models.quality import Flag, KnownAnswer, Resolution
from annotate.models.queue import AnnotatorProgress, QueueCursor
from annotate.models.studies import GuidelinesVersion, Invite, Membership, Role, Study
from annotate.models.users import User

__all__ = [
    "AnnotatorProgress",
    "AuditEntry",
    "Draft",
    "Flag",
    "FrozenVotes",
    "GuidelinesVersion",
    "Invite",
    "KnownAnswer",
    "Lease",
    "Membership",
    "Pair",
    "Preference",
    "PreferenceRevision",
    "Prompt",
    "QueueCursor",
    "Resolution",
    "Response",
    "Role",
    "Side",
    "Skip",
    "Split",
    "Study",
    "Undo",
    "User",
    "Verdict",
]
