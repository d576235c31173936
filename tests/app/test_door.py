"""Who gets in: the page's own address and the printed token, for the page, its API and every file."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from arcinvert.app.door import Door

PORT, TOKEN = 7860, "a-token"
HOME = f"127.0.0.1:{PORT}"


def knock(
    path: str = "/", host: str | None = HOME, origin: str | None = None, query: str = "", cookie: str | None = None,
    kind: str = "http",
) -> tuple[int | str, dict[str, str]]:  # fmt: skip
    """The status (200: let in) and the headers of the answer."""
    sent: list[MutableMapping[str, Any]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    values = {"host": host, "origin": origin, "cookie": cookie}
    headers = [(name.encode(), value.encode()) for name, value in values.items() if value is not None]
    scope = {
        "type": kind,
        "path": path,
        "headers": headers,
        "query_string": query.encode(),
        "server": ("127.0.0.1", PORT),
    }
    asyncio.run(Door(page, TOKEN)(scope, None, send))  # type: ignore[arg-type]
    return sent[0].get("status", sent[0]["type"]), {n.decode(): v.decode() for n, v in sent[0].get("headers", [])}


def test_the_token_of_the_address_becomes_a_cookie_that_opens() -> None:
    status, headers = knock(query=f"token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    for path in ("/", "/config", "/gradio_api/queue/join", "/gradio_api/file=/etc/passwd"):
        status, headers = knock(path, cookie=cookie)
        assert status == 200
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert knock(path, cookie=f"other=1; {cookie}", host=f"LOCALHOST:{PORT}", origin=f"http://{HOME}")[0] == 200


@pytest.mark.parametrize("cookie", [None, f"arcinvert-{PORT}=wrong", "arcinvert-7861=a-token", "\x00;=", f"{TOKEN}"])
def test_without_the_token_nobody_gets_in(cookie: str | None) -> None:
    for path in ("/", "/config", "/gradio_api/upload", "/gradio_api/queue/data", "/assets/x.js"):
        assert knock(path, cookie=cookie)[0] == 401
        assert knock(path, cookie=cookie, query="token=wrong")[0] == 401
        assert knock(path, cookie=cookie, kind="websocket")[0] == "websocket.close"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example:7860", None),
        ("127.0.0.1", None),
        ("127.0.0.1:7861", None),
        ("127.0.0.1.evil.example:7860", None),
        (None, None),
        (HOME, "http://evil.example:7860"),
        (HOME, "https://127.0.0.1:7860"),
        (HOME, "null"),
        (HOME, "http://127.0.0.1:7861"),
    ],
)
def test_another_host_or_origin_is_refused_even_with_the_token(host: str | None, origin: str | None) -> None:
    cookie = f"arcinvert-{PORT}={TOKEN}"
    for path in ("/", "/gradio_api/startup-events"):
        assert knock(path, host=host, origin=origin, cookie=cookie)[0] == 401
        assert knock(path, host=host, origin=origin, query=f"token={TOKEN}")[0] == 401
