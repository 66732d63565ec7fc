"""The page's server takes questions from its own page alone, and ends what nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
from starlette.routing import Route
from starlette.testclient import TestClient

from separable.explore import bodies, create_app, limits
from separable.explore.bodies import uploaded
from separable.explore.guards import names_of_this_computer
from separable.explore.limits import InputError

OURS = "http://testserver"
JSON, FORM = "application/json", "multipart/form-data; boundary=b"
BODY = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n1 2 1\r\n--b--\r\n'
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

app = create_app()
COMPUTING = sorted(
    route.path.replace("{kind}", "kernel")
    for route in app.routes
    if isinstance(route, Route) and route.methods and "POST" in route.methods
)


@pytest.fixture(scope="module")
def page() -> Iterator[TestClient]:
    with TestClient(app) as found:
        yield found


def post(page: TestClient, path: str, headers: dict[str, str]) -> Any:
    """Send what would be a good request but for its headers."""
    kind = FORM if "upload" in path else JSON
    content = BODY if "upload" in path else b"{}"
    return page.post(path, content=content, headers={"content-type": kind, **headers})


FOREIGN = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "https://testserver.evil.example"},
    {"origin": "http://testserver:81"},
    {"origin": "http://testserver@evil.example"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
)


@pytest.mark.parametrize("path", COMPUTING)
def test_another_site_cannot_ask(page: TestClient, path: str) -> None:
    for headers in FOREIGN:
        answer = post(page, path, headers)
        assert answer.status_code == 403, headers
        assert "does not come from the page itself" in answer.json()["error"]
    for site in ("cross-site", "same-site"):
        assert page.get("/api/start", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize("path", COMPUTING)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "text/plain; application/json"]
)
def test_types_that_a_form_can_send_are_refused(page: TestClient, path: str, kind: str) -> None:
    answer = post(page, path, {"origin": OURS, "content-type": kind})
    assert answer.status_code == 415
    assert "expected a body of type" in answer.json()["error"]
    assert post(page, path, {"content-type": kind}).status_code == 403


def test_the_two_types_are_not_exchanged(page: TestClient) -> None:
    for path in COMPUTING:
        other = JSON if "upload" in path else FORM
        assert post(page, path, {"origin": OURS, "content-type": other}).status_code == 415


def test_a_program_that_says_no_origin_may_send_json_alone(page: TestClient) -> None:
    """No web site can make a browser send JSON without asking first, which is refused."""
    assert page.post("/api/kernel", json={"spec": "sobel"}).status_code == 200
    assert post(page, "/api/upload/kernel", {}).status_code == 403
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = page.options("/api/kernel", headers=preflight)
    assert answer.status_code in (403, 405)
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_itself_may(page: TestClient) -> None:
    for headers in ({"origin": OURS}, {"origin": OURS, "sec-fetch-site": "same-origin"},
                    {"sec-fetch-site": "same-origin"}):  # fmt: skip
        assert post(page, "/api/upload/kernel", headers).status_code == 200
    assert page.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # by a link


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("LOCALHOST:1", 200),
        ("evil.example", 400), ("127.0.0.1.evil.example", 400), ("192.168.1.7", 400),
        ("localhost@evil.example", 400), ("", 400), ("[::1", 400),
    ],
)  # fmt: skip
def test_only_names_of_this_computer_reach_it(page: TestClient, host: str, status: int) -> None:
    assert page.get("/", headers={"host": host}).status_code == status


def test_other_computers_call_it_by_its_name_or_by_a_number() -> None:
    hosts = names_of_this_computer("0.0.0.0")
    guarded = TestClient(create_app(token="s3cret", hosts=hosts, numbers=True))
    token = {"token": "s3cret"}
    for host in ("192.168.1.7:80", "[fe80::1]:80", socket.gethostname(), "localhost"):
        assert guarded.get("/", params=token, headers={"host": host}).status_code == 200
    answer = guarded.get("/", params=token, headers={"host": "rebound.evil.example"})
    assert answer.status_code == 400


def test_headers_forbid_frames_and_scripts_from_elsewhere(page: TestClient) -> None:
    for answer in (page.get("/"), page.get("/nothing"), page.get("/", headers={"host": "e.x"})):
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# Bodies


def test_uploads_leave_room_for_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is as full as uploads can make it: a question is answered, an upload is not."""
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 0.05)
    made = create_app()
    made.state.page.bodies.held = limits.BODIES_BYTES - limits.QUESTION_BYTES
    with TestClient(made, headers={"origin": OURS}) as page:
        assert page.post("/api/kernel", json={"spec": "sobel"}).status_code == 200
        refused = page.post("/api/upload/kernel", files={"file": ("k.txt", b"1 2 1")})
    assert refused.status_code == 429


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("UPLOADS_AT_ONCE", 0, 429), ("BODIES_BYTES", 8, 429), ("STALLED_SECONDS", 0.05, 408),
     ("BODY_SECONDS", 0.05, 408)],
)  # fmt: skip
def test_a_body_beyond_a_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float, status: int
) -> None:
    """Asked directly, with a client that stops in the middle of its upload."""
    monkeypatch.setattr(bodies, name, value)
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 0.05)
    made = create_app()
    sent: list[dict[str, Any]] = []
    parts = iter([{"type": "http.request", "body": BODY[:20], "more_body": True}])

    async def receive() -> Any:
        found = next(parts, None)
        if found is None:
            await asyncio.Event().wait()  # nothing more ever comes
        return found

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"origin", OURS.encode()),
               (b"content-type", FORM.encode())]  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": "/api/upload/kernel", "headers": headers,
             "query_string": b"", "http_version": "1.1", "scheme": "http", "raw_path": b"",
             "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": ""}  # fmt: skip
    asyncio.run(asyncio.wait_for(made(scope, receive, send), 300))
    assert sent[0]["status"] == status
    assert len(json.loads(sent[1]["body"])["error"]) < 120
    assert (made.state.page.bodies.held, made.state.page.bodies.uploads) == (0, 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"1 2 1", BODY[:-6], BODY.replace(b"\r\n\r\n", b"\r\n"), BODY[:-4] + BODY[3:],
     BODY.replace(b"--b", b"--c")],
)  # fmt: skip
def test_a_body_that_is_not_an_upload_is_refused(body: bytes) -> None:
    with pytest.raises(InputError, match="expected one file"):
        uploaded(FORM, bytearray(body))
    with pytest.raises(InputError, match="expected one file"):
        uploaded("multipart/form-data", bytearray(BODY))


# A real server


class Server:
    """`separable explore` in a process of its own; what it prints is kept."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "separable", "explore", "--no-browser", "--port", "0"]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[1]
        self.port = int(self.address.rpartition(":")[2].partition("/")[0])
        self.host = f"127.0.0.1:{self.port}"
        self.connect().close()  # it listens before it says so

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=600)

    def begin(self, path: str, kind: str, length: int) -> socket.socket:
        """Send the head of a POST."""
        connection = self.connect()
        head = (f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nOrigin: http://{self.host}\r\n"
                f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")  # fmt: skip
        connection.sendall(head.encode())
        return connection

    def ask(self, path: str, question: Any) -> socket.socket:
        content = json.dumps(question).encode()
        connection = self.begin(path, JSON, len(content))
        connection.sendall(content)
        return connection

    def family(self) -> list[int]:
        """The server and its workers."""
        pid = self.process.pid
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        return [pid, *(int(child) for thread in threads for child in thread.read_text().split())]

    def seconds(self) -> float:
        """CPU time of the server and of its workers."""
        total = 0
        for pid in self.family():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def peak(self) -> float:
        """The most memory that the server has taken, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> str:
        """End it; return what it logged."""
        self.process.terminate()
        self.process.communicate(timeout=600)
        return self.log.read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


@needs_proc
def test_forty_slow_uploads_take_bounded_memory(server: Server) -> None:
    """Each sends 24 of 32 MiB and then nothing; all together would be 960 MiB."""
    before = server.peak()
    part = bytes(1 << 20)
    connections = [server.begin("/api/upload/image", FORM, 32 << 20) for _ in range(40)]
    for _ in range(24):
        for connection in connections:
            with contextlib.suppress(OSError):  # refused before its end
                connection.sendall(part)
    grown = server.peak() - before
    assert grown < 250, f"{grown:.0f} MiB"
    with server.ask("/api/kernel", {"spec": "sobel"}) as other:  # others are still answered
        assert b"200 OK" in other.recv(1000)
    for connection in connections:
        connection.close()
    assert server.stop() == ""


@needs_proc
def test_work_ends_when_its_client_is_gone(server: Server) -> None:
    """Thirty plans are asked for; what is left of them when their clients go is not computed."""
    values = np.random.default_rng(0).integers(0, 9, (40, 40, 40)).tolist()
    question = {"kernel": {"values": values}, "shape": [128] * 3, "dtype": "float32", "tol": 0.3}
    with server.ask("/api/plan", question) as alone:
        assert b"200 OK" in alone.recv(1000)
    first = server.seconds()  # with what is imported for it
    with server.ask("/api/plan", question) as alone:
        assert b"200 OK" in alone.recv(1000)
    begun, each = server.seconds(), max(server.seconds() - first, 0.05)
    connections = [server.ask("/api/plan", question) for _ in range(30)]
    while (
        server.seconds() < begun + each
    ):  # they are at work; the limit of the test ends this otherwise
        time.sleep(0.02)
    for connection in connections:
        connection.close()
    before, now = -1.0, server.seconds()
    while now > before + 0.02:  # until it rests, on a machine however busy
        time.sleep(0.5)
        before, now = now, server.seconds()
    assert now - begun < 15 * each, "they were computed to the end"
    with server.ask("/api/kernel", {"spec": "sobel"}) as other:
        assert b"200 OK" in other.recv(1000)
    assert server.stop() == ""


def test_clients_that_leave_in_the_middle_are_not_logged(server: Server) -> None:
    for _ in range(3):
        connection = server.begin("/api/upload/image", FORM, 1 << 20)
        connection.sendall(BODY)
        connection.close()
        server.begin("/api/kernel", JSON, 1000).close()
        server.connect().close()
    with server.ask("/api/kernel", {"spec": "sobel"}) as other:
        assert b"200 OK" in other.recv(1000)
    assert server.stop() == ""


def test_a_server_for_others_asks_for_its_token(tmp_path: Path) -> None:
    server = Server(tmp_path, "--host", "0.0.0.0")
    try:
        assert "?token=" in server.address
        token = server.address.partition("token=")[2]
        with server.ask("/api/kernel", {"spec": "sobel"}) as refused:
            assert b"403" in refused.recv(1000)
        with server.ask(f"/api/kernel?token={token}", {"spec": "sobel"}) as taken:
            assert b"200 OK" in taken.recv(1000)
        for origin, status in (("http://evil.example", b"403"), (f"http://{server.host}", b"200")):
            with server.connect() as connection:
                text = json.dumps({"spec": "sobel"})
                connection.sendall(
                    f"POST /api/kernel HTTP/1.1\r\nHost: {server.host}\r\nOrigin: {origin}\r\n"
                    f"Cookie: separable={token}\r\nContent-Type: {JSON}\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
                )
                assert status in connection.recv(1000).splitlines()[0]
    finally:
        assert server.stop() == ""


def test_limits_leave_room_for_several_uploads() -> None:
    assert limits.UPLOAD_BYTES <= limits.BODIES_BYTES < limits.UPLOADS_AT_ONCE * limits.UPLOAD_BYTES
