"""An S3 server that fails: a proxy before a real one, whose faults are real responses and resets.

A test sets what goes wrong, and reads afterwards which requests came. The proxy passes bytes on as
they are, since a request is signed for the address that its client has sent it to.
"""

import contextlib
import http.client
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import botocore.session


@dataclass
class Faults:
    """What goes wrong with the requests that come.

    Attributes:
        every: of so many requests each last one fails; 0 for none.
        how: "status": it is answered with `status` and `code`; "reset": its connection is reset
            before the server sees it; "lost": the server carries it out, and its answer is lost;
            "cut": its answer ends in the middle.
        methods: of HTTP, that fail; others are passed on, and not counted.
        status, code: of an answer in place of the server's.
        ignores_conditions: whether a put goes through although its If-None-Match forbids it.
        refuses_conditions: whether a put with If-None-Match is answered with 501.
    """

    every: int = 0
    how: str = "status"
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    status: int = 503
    code: str = "SlowDown"
    ignores_conditions: bool = False
    refuses_conditions: bool = False


@dataclass
class S3Proxy:
    """A proxy before an S3 server.

    Attributes:
        target: the server's endpoint.
        faults: that the requests to come have.
        requests: those that came: method, path, and the status of the answer, 0 for none.
        num_failed: those that a fault met.
    """

    target: str
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    num_failed: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _connections: set[socket.socket] = field(default_factory=set)
    _server: ThreadingHTTPServer | None = None
    _port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Takes requests, at the same port as before."""
        proxy = self

        class Handler(_Handler):
            def handle_one_request(self) -> None:
                self.proxy = proxy
                super().handle_one_request()

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()

    def close(self) -> None:
        """Goes away: open connections are reset, and new ones refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            reset(connection)

    def go_away(self, seconds: float) -> threading.Thread:
        """Goes away for a while; the thread ends when the endpoint is back."""
        self.close()

        def come_back() -> None:
            time.sleep(seconds)
            self.open()

        thread = threading.Thread(target=come_back)
        thread.start()
        return thread


@contextlib.contextmanager
def failing_s3(target: str) -> Iterator[S3Proxy]:
    """A proxy before an S3 server, which has no fault yet."""
    proxy = S3Proxy(target)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.close()


def reset(connection: socket.socket) -> None:
    """Ends a connection with a reset, as a network does that drops it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that end their connections are no news."""


class _Handler(BaseHTTPRequestHandler):
    proxy: S3Proxy
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: Any) -> None:
        """Says nothing; a test reads `requests`."""

    def do_GET(self) -> None:
        proxy, faults = self.proxy, self.proxy.faults
        proxy._connections.add(self.connection)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fails = bool(faults.every) and self.command in faults.methods
        fails = fails and next(proxy._numbers) % faults.every == 0
        proxy.num_failed += fails
        is_conditional = self.command == "PUT" and "If-None-Match" in self.headers
        if fails and faults.how == "reset":
            return self._reset()
        if fails and faults.how == "status":
            return self._refuse(faults.status, faults.code)
        if is_conditional and faults.refuses_conditions:
            return self._refuse(501, "NotImplemented")
        if is_conditional and faults.ignores_conditions:
            return self._put_all_the_same(body)
        status, headers, content = self._forward(body)
        if fails and faults.how == "lost":
            return self._reset()
        self._answer(status, headers, content, is_cut=fails and faults.how == "cut")

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _note(self, status: int) -> None:
        self.proxy.requests.append((self.command, self.path, status))

    def _reset(self) -> None:
        self._note(0)
        self.close_connection = True
        reset(self.connection)

    def _refuse(self, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>Try another time.</Message></Error>"
        self._answer(status, [("Content-Type", "application/xml")], content.encode())

    def _put_all_the_same(self, body: bytes) -> None:
        """Puts an object as a server does that does not know the condition."""
        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.proxy.target,
            region_name="us-east-1",
            aws_access_key_id="writeraccess",
            aws_secret_access_key="writersecret",
        )
        bucket, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
        client.put_object(Bucket=bucket, Key=key, Body=body)
        self._answer(200, [("ETag", '"of-the-proxy"')], b"")

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection(urlsplit(self.proxy.target).netloc, timeout=60)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                server.putheader(name, value)
        server.endheaders(body)
        response = server.getresponse()
        content = response.read()
        server.close()
        hop = ("connection", "transfer-encoding", "keep-alive")
        headers = [header for header in response.getheaders() if header[0].lower() not in hop]
        return response.status, headers, content

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        *,
        is_cut: bool = False,
    ) -> None:
        self._note(status)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if is_cut else content)
        self.wfile.flush()
        if is_cut:
            self.close_connection = True
            reset(self.connection)
