"""Whether the log-ratios of sampled responses estimate a KL divergence. Pure; no Django.

KL(π‖π_ref) is the mean of log π − log π_ref over responses drawn from π itself. Drawn at another temperature,
or with unlikely tokens cut off, they come from another distribution, and their mean is off by an unknown
amount in an unknown direction.
"""

from collections.abc import Mapping
from typing import Any

from training.evaluation.words import NBSP

HYPHEN = "\N{NON-BREAKING HYPHEN}"
# The setting of each name that leaves the distribution as it is.
NEUTRAL = {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0}


def kl_bias(settings: Mapping[str, Any]) -> str:
    """Return why the mean log-ratio of responses drawn so is no estimate of KL(π‖π_ref); empty where it is.

    `settings` are the sampling parameters that were sent; one that is missing was neutral.
    """
    changed = [
        f"{name.replace('_', HYPHEN)}{NBSP}{settings[name]:g}"
        for name, neutral in NEUTRAL.items()
        if settings.get(name, neutral) != neutral
    ]
    if not changed:
        return ""
    return (
        f"Biased: the responses were drawn with {', '.join(changed)}, and so not from a policy's whole "
        "distribution."
    )
