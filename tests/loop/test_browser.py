"""What the unattended loop sends is what a browser without JavaScript would send."""

from __future__ import annotations

from dpo_studio.loop.browser import parse_page

FORM = """
<form action="/rounds/1/train/" method="post">
  <input type="hidden" name="token" value="abc">
  <input type="number" name="beta" value="0.1">
  <input type="text" name="note">
  <input type="number" name="old" value="3" disabled>
  <input type="checkbox" name="ties" checked>
  <input type="checkbox" name="edits">
  <input type="checkbox" name="people" value="7" checked>
  <input type="checkbox" name="people" value="8" checked>
  <input type="radio" name="start" value="sft"><input type="radio" name="start" value="continue" checked>
  <input type="file" name="prompts"><input type="submit" name="go" value="Go">
  <select name="loss"><option value="dpo">DPO</option><option value="ipo" selected>IPO</option></select>
  <select name="order"><option value="margin">Margin</option><option value="random">Random</option></select>
  <textarea name="reason">
because &amp; so</textarea>
  <button type="submit" name="then" value="watch">Train</button>
</form>
<input name="outside" value="1">
"""


def test_an_untouched_form_sends_what_a_browser_sends() -> None:
    form = parse_page(FORM, path="/rounds/1/").form_to("rounds/1/train")

    assert form is not None
    assert form.fields == {
        "token": ["abc"],
        "beta": ["0.1"],
        "note": [""],
        "ties": ["on"],
        "people": ["7", "8"],
        "start": ["continue"],
        "loss": ["ipo"],
        "order": ["margin"],
        "reason": ["because & so"],
    }


def test_a_form_without_an_address_goes_to_its_page_and_knows_its_buttons() -> None:
    page = parse_page('<form><button name="username" value="lead">Lead</button></form>', path="/login/")

    form = page.form_with_button("username", "lead")

    assert form is not None
    assert form.action == "/login/"
    assert page.form_with_button("username", "ada") is None
    assert page.form_to("judge") is None


def test_the_two_responses_are_read_by_side_as_raw_text() -> None:
    html = (
        '<section class="pane pane-a"><div>formatted</div><pre class="raw">a &lt; b</pre></section>'
        '<section class="pane pane-b"><pre class="raw">b</pre><pre>not this</pre></section>'
    )

    assert parse_page(html, path="/").responses == {"left": "a < b", "right": "b"}
