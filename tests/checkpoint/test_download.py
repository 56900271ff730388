"""Downloads from a server on this machine: whole, continued, changed meanwhile, damaged, absent."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vis_core.checkpoint.download import download
from vis_core.errors import CheckpointError

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A server of one file with ``content`` and ``etag``; it cuts the first ``cut`` answers after ``cut_at`` bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            httpd.ranges.append(self.headers.get("Range"))
            if self.path != "/model.pth":
                self.send_error(404)
                return
            begin, status = 0, 200
            wanted = self.headers.get("Range")
            if wanted and httpd.can_range and self.headers.get("If-Range") in (None, httpd.etag):
                begin, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
                if begin >= len(httpd.content):
                    self.send_error(416)
                    return
            body = httpd.content[begin:]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if httpd.etag:
                self.send_header("ETag", httpd.etag)
            self.end_headers()
            if httpd.cut:
                httpd.cut -= 1
                body = body[: httpd.cut_at]
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.etag, httpd.can_range, httpd.cut, httpd.cut_at, httpd.ranges = (
        CONTENT,
        '"a"',
        True,
        0,
        1000,
        [],
    )
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/model.pth"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole(server, tmp_path):
    seen = []
    path = download(server.url, tmp_path / "new" / "model.pth", DIGEST, lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT and files(path.parent) == ["model.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and [have for have, _ in seen] == sorted(have for have, _ in seen)
    download(server.url, path, DIGEST)
    assert len(server.ranges) == 1, "what is there is not fetched again"


def test_continued(server, tmp_path):
    server.cut = 2
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"ended after .* bytes; another attempt goes on from there"):
            download(server.url, tmp_path / "model.pth", DIGEST)
    assert "model.pth" not in files(tmp_path)
    assert download(server.url, tmp_path / "model.pth", DIGEST).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-"]
    assert files(tmp_path) == ["model.pth"]


@pytest.mark.parametrize("change", ["other file", "no ranges", "no mark"])
def test_begun_anew_where_it_cannot_be_continued(server, tmp_path, change):
    server.cut = 1
    server.etag = None if change == "no mark" else server.etag
    with pytest.raises(CheckpointError):
        download(server.url, tmp_path / "model.pth")
    if change == "other file":
        server.content, server.etag = CONTENT[::-1], '"b"'
    server.can_range = change != "no ranges"
    assert download(server.url, tmp_path / "model.pth").read_bytes() == server.content


def test_a_file_that_shrank_is_begun_anew(server, tmp_path):
    server.cut = 1
    with pytest.raises(CheckpointError):
        download(server.url, tmp_path / "model.pth")
    server.content = CONTENT[:500]
    assert download(server.url, tmp_path / "model.pth").read_bytes() == server.content


def test_wrong_digest(server, tmp_path):
    with pytest.raises(CheckpointError, match=f"SHA-256 is {DIGEST}, expected 00; it was deleted"):
        download(server.url, tmp_path / "model.pth", "00")
    assert files(tmp_path) == []


def test_failures_are_one_line(server, tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be fetched \(Not Found\); put the file at"):
        download(server.url + "x", tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="could not be fetched"):
        download("http://127.0.0.1:1/model.pth", tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="not an http address"):
        download("file:///etc/hosts", tmp_path / "model.pth")


def test_vis_model_get(server, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from vis_core.cli.main import app

    monkeypatch.setenv("VIS_WEIGHTS", str(tmp_path))
    arguments = ["model", "get", "ctvis-r50-ovis", "--url", server.url, "--sha256", DIGEST]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "ctvis_r50_ovis.pth").read_bytes() == CONTENT
    assert "ctvis_r50_ovis.pth: 1.0 MB" in result.stdout
    assert "here already" in CliRunner().invoke(app, arguments[:3]).stdout
