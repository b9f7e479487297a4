"""A person's browser without a screen: the same pages, forms, cookies and CSRF tokens, over HTTP."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx

from dpo_studio.loop.product import LoopFailed


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)
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
        if self._form is not None:
            self._read_control(self._form, tag=tag, values=values)

    @staticmethod
    def _read_control(form: Form, *, tag: str, values: dict[str, str]) -> None:
        if tag == "input" and values.get("type") not in ("radio", "checkbox"):
            form.fields[values.get("name", "")] = values.get("value", "")
        elif tag == "textarea":
            form.fields[values.get("name", "")] = ""
        elif tag == "button" and "name" in values:
            form.submits.append((values["name"], values.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "pre":
            self._is_raw = False

    def handle_data(self, data: str) -> None:
        if self._is_raw and self._pane:
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
        return self._read(self._client.post(form.action, data={**form.fields, **values}))

    def _read(self, response: httpx.Response) -> Page:
        if response.status_code >= 400:
            raise LoopFailed(
                f"{response.request.method} {response.request.url.path} answered {response.status_code}"
            )
        return parse_page(response.text, path=response.request.url.path)
