"""Text of any origin becomes HTML that can only be read."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.markdown import ATTRIBUTES, TAGS, render_markdown

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<iframe src='https://evil.example'></iframe>",
    "<style>body{display:none}</style>",
    "<svg onload=alert(1)><circle></svg>",
    "<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](java\nscript:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](vbscript:x)",
    "[click](data:text/html,<script>alert(1)</script>)",
    "[click](file:///etc/passwd)",
    "[click](//evil.example)",
    '[click](https://example.org "x\\" onmouseover=\\"alert(1)")',
    "![beacon](https://evil.example/pixel.png)",
    "![a](x 'onerror=alert(1)')",
    "![<b onclick=alert(1)>](x)",
    "[![nested](https://evil.example/p.png)](javascript:alert(1))",
    "<a href='javascript:alert(1)'>x</a>",
    '<https://example.org/"onmouseover=alert(1)>',
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```" onclick="alert(1)\nx\n```',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "| a | b |\n|:-:|--:|\n| <img src=x> | style |",
    "<form action='/logout/' method=post><button>x</button></form>",
    "<base href='https://evil.example/'>",
    "\u202egnp.exe\u202c \x00 \ufeff",
]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES.get(tag, set()) | {"rel"}:
                self.faults.append(f"{tag} {name}")
            if name == "href" and not (value or "").startswith(("http://", "https://", "mailto:")):
                self.faults.append(f"href {value}")


def faults_of(html: str) -> list[str]:
    reader = Reader()
    reader.feed(html)
    return reader.faults


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_keeps_no_tag_attribute_or_address_that_acts(text: str) -> None:
    assert faults_of(render_markdown(text)) == []


@given(st.text(alphabet=st.sampled_from("<>\"'`[]()!#*_|-&;:/\\ \n\tabjs=x1"), max_size=80))
def test_any_text_keeps_only_what_is_on_the_list(text: str) -> None:
    assert faults_of(render_markdown(text)) == []


def test_links_say_nofollow_and_open_in_the_same_tab() -> None:
    html = render_markdown("[a](https://example.org/x)")
    assert html == '<p><a href="https://example.org/x" rel="nofollow noopener noreferrer">a</a></p>\n'


def test_a_relative_link_loses_its_address() -> None:
    assert "href" not in render_markdown("[leave](/logout/)")


def test_an_image_becomes_its_description() -> None:
    assert render_markdown("![a **cat** <b>](https://e.org/c.png)") == "<p>[image: a cat &lt;b&gt;]</p>\n"
    assert render_markdown("![](https://e.org/c.png)") == "<p>[image: no description]</p>\n"


def test_code_tables_and_lists_stay() -> None:
    html = render_markdown("3. c\n\n```\na < b\n```\n\n| h |\n|---|\n| d |\n\n~~s~~")
    for part in ('<ol start="3">', "<code>a &lt; b\n</code>", "<th>h</th>", "<td>d</td>", "<s>s</s>"):
        assert part in html


def test_line_breaks_count_in_a_chat_and_not_in_a_document() -> None:
    assert "<br>" in render_markdown("a\nb")
    assert "<br>" not in render_markdown("a\nb", is_document=True)


def test_a_very_long_text_is_shown_as_it_is() -> None:
    html = render_markdown("<b>*x*" * 30_000)
    assert html.startswith("<p>&lt;b&gt;*x*")


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("$x_1$ and $O(n)$", ["$x_1$", "$O(n)$"]),
        ("$n$, $a+b$, $2k$", ["$n$", "$a+b$"]),
        (r"\(a_b\) and \[c\]", [r"\(a_b\)", r"\[c\]"]),
        ("$$\nE = mc^2\n$$", ["$$\nE = mc^2\n$$"]),
        ("costs $5 and $10 more", []),
        ("from $20-$30, or 50$ for x_1 and 60$.", []),
        ("$HOME/$USER", []),
        ("`$x_1$`", []),
        ("an open $x_1 and a lone $$", []),
    ],
)
def test_formulas_are_kept_as_written_and_money_is_no_formula(text: str, formulas: list[str]) -> None:
    found = re.findall(
        r'<span class="math-(?:inline|display)">(.*?)</span>', render_markdown(text), re.DOTALL
    )
    assert [unescape(formula) for formula in found] == formulas


@pytest.mark.parametrize("language", ["python", "c++", "objective-c"])
def test_a_fenced_block_keeps_its_language(language: str) -> None:
    assert f'<code class="language-{language}">' in render_markdown(f"```{language}\nx\n```")


def test_a_class_that_is_no_language_is_dropped() -> None:
    assert "class" not in render_markdown("```x:y;z\ncode\n```")
