"""Fetching a weights file: whole or not at all, going on where an earlier attempt stopped, checked by its SHA-256."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vis_core.errors import CheckpointError

_BLOCK = 1 << 18
_TIMEOUT = 30  # seconds without a byte


def download(
    url: str, path: str | Path, sha256: str = "", progress: Callable[[int, int | None], None] | None = None
) -> Path:
    """Fetch ``url`` to ``path``; returns it. A file that is there already is checked and kept.

    What has arrived of a broken transfer stays in ``<path>.partial`` and is completed by the next call, if the server
    can (HTTP ranges) and says that the file is still the same; otherwise it is fetched anew.

    Args:
        url: http or https.
        sha256: hex digest the file must have; "" accepts any.
        progress: called with the bytes there are so far and their total, if the server tells it.

    Raises CheckpointError if it cannot be fetched, ends early or has another digest (it is then deleted).
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise CheckpointError(f"{url}: not an http address")
    if path.is_file():
        _check(path, sha256, url)
        return path
    partial, tag = path.with_name(path.name + ".partial"), path.with_name(path.name + ".partial.tag")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, partial, tag, progress)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as e:
        reason = getattr(e, "reason", None) or e
        raise CheckpointError(f"{url}: could not be fetched ({reason}); put the file at {path} by other means") from e
    tag.unlink(missing_ok=True)
    _check(partial, sha256, url)
    os.replace(partial, path)
    return path


def _fetch(url: str, partial: Path, tag: Path, progress: Callable[[int, int | None], None] | None) -> None:
    """Complete ``partial``; ``tag`` holds the server's mark of the version of which it is the beginning."""
    begin = partial.stat().st_size if partial.is_file() and tag.is_file() else 0
    headers = {"User-Agent": "vis-core", "Accept-Encoding": "identity"}
    if begin:
        headers |= {"Range": f"bytes={begin}-", "If-Range": tag.read_text()}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code != 416 or not begin:  # 416: nothing follows what is there, or not of this file
            raise
        partial.unlink()
        return _fetch(url, partial, tag, progress)
    with response:
        if response.status != 206:
            begin = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else begin + int(length)
        mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
        # Weak marks do not promise equal bytes.
        if mark and not mark.startswith("W/"):
            tag.write_text(mark)
        else:
            tag.unlink(missing_ok=True)
        with open(partial, "ab" if begin else "wb") as file:
            have = begin
            while block := response.read(_BLOCK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
    if total is not None and have < total:
        raise OSError(f"ended after {have} of {total} bytes; another attempt goes on from there")


def _check(path: Path, sha256: str, url: str) -> None:
    if not sha256:
        return
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        path.unlink()
        raise CheckpointError(f"{url}: the file's SHA-256 is {digest.hexdigest()}, expected {sha256}; it was deleted")
