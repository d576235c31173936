"""Who may talk to the page: this machine's browser, at the page's own address, with the token that was printed.

A site in the browser can send requests to this machine, and a host name of its own can point here (DNS rebinding). So
every request must name the page's own address as its host and, where the browser says so, as its origin; and it must
bring the token, first in the printed address and from then on in a cookie. And whatever the page's parts try, the
browser lets the page talk to nobody but its own address.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
NAMES = ("127.0.0.1", "localhost")
"""Names of this machine by which the page may be called."""
STARTED = "/gradio_api/startup-events"
"""What gradio asks of itself at the start, without the token; it does nothing for others."""
REFUSED = b"arcinvert: open the page at the address that `arcinvert app` printed, with its token\n"

POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What the browser lets the page load and send: nothing but its own; gradio needs scripts in the page."""
SHARES_NOTHING = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]


class Door:
    """ASGI middleware before the page and its API.

    Args:
        app: that is guarded.
        token: that every request must bring.
    """

    def __init__(self, app: App, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, turn the token of an address into a cookie, or refuse."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        port = scope["server"][1]
        hosts = [f"{name}:{port}" for name in NAMES]
        origins = headers.get(b"origin", [])
        at_home = len(headers.get(b"host", [])) == 1 and headers[b"host"][0].lower() in hosts
        if not at_home or any(origin.lower().removeprefix("http://") not in hosts for origin in origins):
            await self._refuse(scope, send)
        elif self._is_token(self._cookie(headers, port)) or scope["path"] == STARTED:
            await self.app(scope, receive, _sharing_nothing(send))
        elif scope["type"] == "http" and self._is_token(_in_address(scope)):
            # On to the address without the token, which would stay in the browser's history.
            cookie = f"{_cookie_name(port)}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, [(b"location", b"/"), (b"set-cookie", cookie.encode())], b"")
        else:
            await self._refuse(scope, send)

    def _is_token(self, found: str) -> bool:
        return hmac.compare_digest(found.encode("utf-8", "replace"), self.token.encode())

    @staticmethod
    def _cookie(headers: dict[bytes, list[str]], port: int) -> str:
        try:
            sent = SimpleCookie("; ".join(headers.get(b"cookie", [])))
        except CookieError:
            return ""
        name = _cookie_name(port)
        return sent[name].value if name in sent else ""

    async def _refuse(self, scope: Message, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, 401, [(b"content-type", b"text/plain; charset=utf-8")], REFUSED)


def _cookie_name(port: int) -> str:
    """Of the page at a port: browsers send a machine's cookies to all its ports."""
    return f"arcinvert-{port}"


def _sharing_nothing(send: Send) -> Send:
    """Add :data:`SHARES_NOTHING` to the headers of an answer."""

    async def with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *SHARES_NOTHING]}
        await send(message)

    return with_policy


def _in_address(scope: Message) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
