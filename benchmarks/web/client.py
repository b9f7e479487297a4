"""Annotators over HTTP: one task each, on sockets, with no more client than is needed.

A cycle is what the page's script does: submit the verdict form, and read the next pair out of the answer. The
time runs from the first byte sent to the last byte received.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from dataclasses import dataclass, field

PAIR = re.compile(rb'data-pair="(\d+)"')
FIELD = re.compile(rb'<input type="hidden" name="(client_id|shown|csrfmiddlewaretoken)" value="([^"]*)"')


class UnexpectedAnswer(RuntimeError):
    """The server answered with something else than the next pair."""


@dataclass
class Measured:
    """What was measured: seconds of each cycle, and how long the whole measuring took.

    Where somebody runs out of pairs it ends for everybody, at `dry_at` on the performance counter.
    """

    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    dry_at: float | None = None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Annotator:
    """One signed-in annotator who labels what the server shows."""

    def __init__(self, port: int, *, slug: str, session: str, keeps_connection: bool) -> None:
        self.port = port
        self.slug = slug
        self._session = session
        self._keeps_connection = keeps_connection
        self._csrf = ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open_page(self) -> bytes:
        """Open the labelling page and return its HTML."""
        answer = await self.request("GET", f"/studies/{self.slug}/label/")
        cookie = re.search(rb"csrftoken=([^;]+)", answer.headers.get(b"set-cookie", b""))
        if cookie:
            self._csrf = cookie[1].decode()
        return _html_of(answer)

    async def judge(self, html: bytes) -> bytes:
        """Label the pair in `html`; return the fragment with the next pair."""
        pair = PAIR.search(html)
        if pair is None:
            raise UnexpectedAnswer("the page shows no pair")
        fields = dict(FIELD.findall(html))
        body = (
            f"client_id={uuid.uuid4()}&shown={fields[b'shown'].decode()}&verdict=left&duration_ms=1500&ahead="
        )
        path = f"/studies/{self.slug}/pairs/{pair[1].decode()}/judge/"
        return _html_of(await self.request("POST", path, body=body))

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def request(self, method: str, path: str, *, body: str = "") -> Answer:
        """Send a request on the annotator's connection, opened where needed, and read the answer.

        A connection that the server has closed meanwhile is opened again, as browsers do.
        """
        whole = self.head(method, path, length=len(body)) + body.encode()
        try:
            answer = await self._exchange(whole)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            answer = await self._exchange(whole)
        if not self._keeps_connection or answer.headers.get(b"connection", b"").lower() == b"close":
            await self.close()
        return answer

    async def _exchange(self, whole: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        reader, writer = self._streams
        writer.write(whole)
        return await read_answer(reader)

    def head(self, method: str, path: str, *, length: int) -> bytes:
        """Return a request's first bytes, up to its body."""
        connection = "keep-alive" if self._keeps_connection else "close"
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Cookie: sessionid={self._session}; csrftoken={self._csrf}",
            f"Connection: {connection}",
        ]
        if method == "POST":
            lines += [
                "HX-Request: true",
                f"X-CSRFToken: {self._csrf}",
                "Content-Type: application/x-www-form-urlencoded",
                f"Content-Length: {length}",
            ]
        return "\r\n".join([*lines, "", ""]).encode()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer: status, headers, and a body of the announced length."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        headers[name] = value.strip() if name not in headers else headers[name] + b"; " + value.strip()
    if b"content-length" in headers:
        body = await reader.readexactly(int(headers[b"content-length"]))
    else:
        body = await _read_chunks(reader)
    return Answer(status=int(first.split()[1]), headers=headers, body=body)


async def label_for(
    annotators: list[Annotator], *, seconds: float, warm_up: float, thinking: float = 0.0
) -> Measured:
    """Let the annotators label at once for a while; what happens within `warm_up` is not measured."""
    measured = Measured()
    start = time.perf_counter() + warm_up
    await asyncio.gather(
        *(
            _label_until(annotator, start=start, end=start + seconds, thinking=thinking, measured=measured)
            for annotator in annotators
        )
    )
    measured.elapsed = (start + seconds if measured.dry_at is None else measured.dry_at) - start
    return measured


async def _label_until(
    annotator: Annotator, *, start: float, end: float, thinking: float, measured: Measured
) -> None:
    chance = random.Random(id(annotator))
    html = await annotator.open_page()
    await asyncio.sleep(chance.random() * thinking)
    while (began := time.perf_counter()) < end and measured.dry_at is None:
        try:
            html = await annotator.judge(html)
        except UnexpectedAnswer:
            measured.dry_at = began
            break
        done = time.perf_counter()
        if began >= start and done <= end:
            measured.seconds.append(done - began)
        if thinking:
            await asyncio.sleep(thinking * (0.5 + chance.random()))
    await annotator.close()


def _html_of(answer: Answer) -> bytes:
    if answer.status != 200:
        raise RuntimeError(f"the server answered {answer.status}: {answer.body[:300]!r}")
    return answer.body


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)
