"""Links to the comparison: what cannot be read falls back to the default, so that no link is broken."""

from django.http import QueryDict

from training.selectors.compare_query import ORDERS, VERDICTS, CompareQuery


def compare_query(values: QueryDict) -> CompareQuery:
    """Return what a link to the comparison asks for."""
    order, verdict = values.get("order", ""), values.get("verdict", "")
    return CompareQuery(
        policies=tuple(number for text in values.getlist("policy") if (number := whole(text)) is not None),
        before=whole(values.get("from", "")),
        after=whole(values.get("to", "")),
        with_diff=values.get("diff", "1") != "0",
        sample=max(1, whole(values.get("sample", "")) or 1),
        order=order if order in ORDERS else "changed",
        tag=values.get("tag", "")[:100],
        text=values.get("text", "").replace("\x00", "")[:200],
        verdict=verdict if verdict in VERDICTS else "",
        least=whole(values.get("least", "")),
        most=whole(values.get("most", "")),
        page=whole(values.get("page", "")) or 1,
    )


def whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
