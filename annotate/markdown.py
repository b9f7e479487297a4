"""Text written by models and people, as HTML that cannot do anything but be read.

Markdown is rendered without raw HTML, then every tag and attribute that is not on a short list is removed.
Images become their description, so that a page never loads anything that a model named.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

from annotate.markdown_math import keep_math

TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "blockquote", "pre", "code"),
    *("ul", "ol", "li", "a", "table", "thead", "tbody", "tr", "th", "td", "span"),
}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}, "span": {"class"}}
# The language of a fenced block, and what `markdown_math` makes.
CLASSES = {"code": re.compile(r"language-[\w+#.-]{1,30}"), "span": re.compile(r"math-(inline|display)")}
URL_SCHEMES = {"http", "https", "mailto"}
# Markdown of a few hundred KB can take seconds to parse; text beyond this is shown as it is.
MAX_CHARACTERS = 100_000
# The HTML of texts up to this length is kept for a while; longer ones would fill the memory.
KEPT_CHARACTERS = 10_000


def _image_as_text(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    description = renderer.renderInlineAsText(tokens[index].children or [], options, env)
    return f"[image: {escape(description or 'no description')}]"


def _only_harmless(tag: str, attribute: str, value: str) -> str | None:
    """Known classes only; and a relative address would lead into this site: to its sign-out, for example."""
    if attribute == "class":
        return value if CLASSES[tag].fullmatch(value) else None
    if attribute != "href" or value.lower().startswith(("http://", "https://", "mailto:")):
        return value
    return None


def _make_parser(*, breaks: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": breaks, "linkify": False})
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image_as_text)
    keep_math(parser)
    return parser


_chat = _make_parser(breaks=True)
_document = _make_parser(breaks=False)


def render_markdown(text: str, *, is_document: bool = False) -> SafeString:
    """Return harmless HTML for Markdown of any origin; links lead only to http, https and mailto addresses.

    In a chat a line break is a line break; in a document, as Markdown has it, a paragraph's lines flow
    together.
    """
    if len(text) > MAX_CHARACTERS:
        return mark_safe(f"<p>{escape(text)}</p>")
    return _rendered_before(text, is_document) if len(text) <= KEPT_CHARACTERS else _render(text, is_document)


def _render(text: str, is_document: bool) -> SafeString:
    parser = _document if is_document else _chat
    cleaned = nh3.clean(
        parser.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_only_harmless,
        url_schemes=URL_SCHEMES,
        link_rel="nofollow noopener noreferrer",
    )
    return mark_safe(cleaned)


# A pair is shown to several people, and again after an undo. The text is the key: nothing can be stale.
_rendered_before = lru_cache(maxsize=1024)(_render)
