"""A person's browser without a screen: the same pages, forms, cookies and CSRF tokens, over HTTP."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from dpo_studio.loop.product import LoopFailed

NEVER_SENT = ("submit", "button", "reset", "image", "file")


@dataclass
class Form:
    """A form; `fields` is what it sends when nobody has touched it."""

    action: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    submits: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    """What a person could press (forms) and read (the two responses, by side)."""

    forms: list[Form] = field(default_factory=list)
    responses: dict[str, str] = field(default_factory=dict)

    def form_to(self, ending: str) -> Form | None:
        """Return the form whose address ends so, if the page has one."""
        return next((form for form in self.forms if form.action.rstrip("/").endswith(ending)), None)

    def form_with_button(self, name: str, value: str) -> Form | None:
        """Return the form that has this submit button, if the page has one."""
        return next((form for form in self.forms if (name, value) in form.submits), None)


class PageParser(HTMLParser):
    """Collects forms, and the raw text of the left (A) and right (B) response."""

    def __init__(self, *, path: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._path = path
        self._form: Form | None = None
        self._select = ""
        self._textarea = ""
        self._pane = ""
        self._is_raw = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        classes = values.get("class", "").split()
        if tag == "form":
            self._form = Form(action=values.get("action") or self._path)
            self.page.forms.append(self._form)
        elif "pane-a" in classes or "pane-b" in classes:
            self._pane = "left" if "pane-a" in classes else "right"
            self.page.responses[self._pane] = ""
        self._is_raw = tag == "pre" and "raw" in classes
        if self._form is not None and "disabled" not in values:
            self._read_control(self._form, tag=tag, values=values)

    def _read_control(self, form: Form, *, tag: str, values: dict[str, str]) -> None:
        name = values.get("name", "")
        if tag == "input" and name:
            self._read_input(form, name=name, values=values)
        elif tag == "textarea" and name:
            self._textarea = name
            form.fields[name] = [""]
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and ("selected" in values or self._select not in form.fields):
            form.fields[self._select] = [values.get("value", "")]
        elif tag == "button" and name:
            form.submits.append((name, values.get("value", "")))

    @staticmethod
    def _read_input(form: Form, *, name: str, values: dict[str, str]) -> None:
        kind = values.get("type", "text")
        if kind in ("radio", "checkbox"):
            if "checked" in values:
                form.fields.setdefault(name, []).append(values.get("value", "on"))
        elif kind not in NEVER_SENT:
            form.fields.setdefault(name, []).append(values.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""
        elif tag == "pre":
            self._is_raw = False

    def handle_data(self, data: str) -> None:
        if self._form is not None and self._textarea:
            self._form.fields[self._textarea][0] += data.removeprefix("\n")
        elif self._is_raw and self._pane:
            self.page.responses[self._pane] += data


def parse_page(html: str, *, path: str) -> Page:
    parser = PageParser(path=path)
    parser.feed(html)
    return parser.page


class Browser:
    """Keeps a session; `submit` sends a form the way a browser without JavaScript does."""

    def __init__(self, *, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60)

    def open(self, path: str) -> Page:
        return self._read(self._client.get(path))

    def submit(self, form: Form, **values: str) -> Page:
        """Send the form with `values` in place of what it came with."""
        return self._read(self._client.post(form.action, data={**form.fields, **values}))

    def _read(self, response: httpx.Response) -> Page:
        if response.status_code >= 400:
            raise LoopFailed(
                f"{response.request.method} {response.request.url.path} answered {response.status_code}"
            )
        return parse_page(response.text, path=response.request.url.path)
