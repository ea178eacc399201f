"""Whether the network answers, asked once and briefly, so that no download retries for half a minute."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator

WAIT_SECONDS = 3.0
_SIGNS = (
    "download", "offline", "connect to", "resolve", "internet", "timed out", "locate the file", "urlopen", "local disk",
)  # fmt: skip


def reachable(url: str, *, timeout: float = WAIT_SECONDS) -> bool:
    """Whether the host of an address, or the proxy in front of it, takes a connection within ``timeout`` seconds.

    >>> reachable("http://127.0.0.1:1")
    False
    """
    target = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        with socket.create_connection((target.hostname or "", port), timeout=timeout):
            return True
    except (OSError, ValueError, UnicodeError):
        return False


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep huggingface_hub from asking the network: what is on the disk must do."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def hub() -> Iterator[None]:
    """Let huggingface_hub ask its server if that answers, and use what was downloaded before otherwise."""
    from huggingface_hub import constants

    forbidden = constants.HF_HUB_OFFLINE
    online = not forbidden and reachable(constants.ENDPOINT)
    try:
        with contextlib.nullcontext() if online else offline():
            yield
    except Exception as error:
        if not online:
            silent = f"no network: no answer from {constants.ENDPOINT} within {WAIT_SECONDS:g} seconds"
            error.add_note("HF_HUB_OFFLINE is set" if forbidden else silent)
        raise


def explained(error: BaseException) -> str:
    """The error in one line, with what to do when the reason is the network."""
    text = " ".join(str(error).split())[:400] or type(error).__name__
    if not any(sign in text.lower() for sign in _SIGNS):
        return text
    why = getattr(error, "__notes__", [text])[0]
    return f"its files are not on this machine and could not be downloaded ({why}). {advice()}"


def advice() -> str:
    """What to do when files cannot be downloaded."""
    return (
        "Check the network (and unset HF_HUB_OFFLINE where it is set); or download once on a machine that has one and "
        "bring the files here: into a folder, named by open_clip:local-dir:PATH, open_clip:ARCH@./file or "
        "sentence-transformers:PATH, or as the hub's cache, the folder that HF_HUB_CACHE names (by default "
        "~/.cache/huggingface/hub)"
    )
