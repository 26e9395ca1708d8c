"""Downloads against a local server that does everything wrong, and real processes."""

import hashlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests
from conftest import ROOT

from ppcls_lite import download
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError
from ppcls_lite.weights.published import cache_folder, fetch
from ppcls_lite.weights.tags import WEIGHTS, WeightTag, resolve_pretrained, tags_of

DATA = pickle.dumps({"w": np.random.RandomState(0).bytes(400_000), "b": np.zeros(3)})
OTHER = DATA[:-1000] + bytes(999) + b"."
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves DATA; `script` says how to answer the next requests, "ok" is the way after it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.etag = [], [], '"one"'
        self.released = threading.Event()

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        act = server.script.pop(0) if server.script else "ok"
        if act.isdigit():
            self.send_response(int(act))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = {"wrong": OTHER, "page": b"<!DOCTYPE html>please log in"}.get(act, DATA)
        start = 0
        current = self.headers.get("If-Range") in (None, server.etag)
        if self.headers.get("Range") and current and act != "no range":
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"]).group(1))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            shown = 7 if act == "other range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        body = body[start:]
        claimed = len(body) // 2 if act == "too short" else len(body)
        if act != "no length":
            self.send_header("Content-Length", str(claimed))
        self.end_headers()
        half = len(body) // 2
        if act in ("cut", "stall", "too short"):
            self.wfile.write(body[:half])
            self.wfile.flush()
            if act == "stall":
                server.released.wait(20)
            self.close_connection = True
        elif act == "slow":
            for at in range(0, len(body), 20_000):
                self.wfile.write(body[at : at + 20_000])
                server.released.wait(0.05)
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PPCLS_LITE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(download, "TIMEOUTS", (5.0, 0.5))
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def fetched(tag):
    """The file on disk, which is also what was read of it."""
    content = fetch(tag)
    assert content.path.read_bytes() == content.data
    return content.path


def tag_at(base, digest=f"sha256:{SHA256[:8]}", file="weights.pdparams"):
    return WeightTag("m", "t", f"{base}/{file}", digest, "", Preprocess(), None, None, "a test")


def tag_of(server, digest=f"sha256:{SHA256[:8]}"):
    return tag_at(f"http://127.0.0.1:{server.server_port}", digest)


def cached(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock"))


def test_downloads_once_and_says_what_it_checked(server, tmp_path, capfd):
    path = fetched(tag_of(server))
    assert path == tmp_path / "cache/weights.pdparams" and path.read_bytes() == DATA
    assert fetched(tag_of(server)) == path and len(server.seen) == 1
    said = capfd.readouterr()
    assert said.out == ""  # stdout belongs to the command
    assert "(0.4 MB)" in said.err and f"(sha256 {SHA256[:8]} as published)" in said.err
    assert cached(tmp_path) == ["weights.pdparams"]


@pytest.mark.parametrize("digest", [f"md5:{hashlib.md5(DATA).hexdigest()}", f"sha256:{SHA256}"])
def test_whole_digests_of_both_kinds(server, digest):
    assert fetched(tag_of(server, digest)).read_bytes() == DATA


def test_without_a_published_hash_it_says_so_and_still_wants_weights(server, tmp_path, capfd):
    server.script = ["page"]
    with pytest.raises(UserError, match="begins with b'<!DOCTYPE html"):
        fetched(tag_of(server, None))
    assert cached(tmp_path) == ["weights.pdparams.version"]
    assert fetched(tag_of(server, None)).read_bytes() == DATA
    assert "not verified: no published hash" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        (["cut"], 1),
        (["stall"], 1),
        (["cut", "cut", "cut"], 3),
        (["500", "503", "429"], 0),
        (["cut", "500"], 2),
        (["cut", "no range"], 1),
        (["cut", "other range"], 1),
        (["no length"], 0),
    ],
)
def test_passing_troubles_pass(server, tmp_path, script, ranges):
    server.script = list(script)
    assert fetched(tag_of(server)).read_bytes() == DATA
    assert not server.script and sum(r is not None for _, r, _ in server.seen) == ranges
    assert cached(tmp_path) == ["weights.pdparams"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (["404"], "404 .*Not Found"),
        (["403"], "403 .*Forbidden"),
        (["500"] * 4, "500 .*Internal Server Error"),
        (["cut"] * 4, "bytes|broken|IncompleteRead"),
        (["stall"] * 4, "pdparams: Read timed out"),
        (["wrong"], "its sha256 is .*, published is"),
        (["too short"], "its sha256 is"),
        (["page"], "its sha256 is"),
    ],
)
def test_lasting_troubles_are_one_message_and_leave_no_weights(server, tmp_path, script, message):
    server.script = list(script)
    with pytest.raises(UserError, match=message) as caught:
        fetched(tag_of(server))
    target = tmp_path / "cache/weights.pdparams"
    assert tag_of(server).url in caught.value.message and str(target) in caught.value.hint
    assert len(server.seen) == len(script) and not target.exists()
    assert fetched(tag_of(server)).read_bytes() == DATA  # and does not stand in its own way


def test_without_a_network_it_says_where_to_put_the_file(server, tmp_path):
    tag = tag_of(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="Connection refused") as caught:
        fetched(tag)
    target = tmp_path / "cache/weights.pdparams"
    assert "urllib3" not in caught.value.message and "HTTP" not in caught.value.message
    assert str(caught.value).count(tag.url) == 1 and f"put it at {target}" in caught.value.hint
    target.write_bytes(DATA)  # by hand
    assert fetched(tag) == target


def leave_part(tmp_path, data, etag='"one"'):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "weights.pdparams.part").write_bytes(data)
    (folder / "weights.pdparams.version").write_text(etag)


def test_a_part_of_another_version_is_not_continued(server, tmp_path):
    leave_part(tmp_path, OTHER[:200_000], '"zero"')
    assert fetched(tag_of(server, None)).read_bytes() == DATA
    assert server.seen == [("/weights.pdparams", "bytes=200000-", '"zero"')]


def test_a_spoilt_part_gets_a_second_chance(server, tmp_path):
    leave_part(tmp_path, bytes(1000))
    assert fetched(tag_of(server)).read_bytes() == DATA
    assert [r for _, r, _ in server.seen] == ["bytes=1000-", None]


def test_another_range_than_asked_for_is_not_appended(server, tmp_path):
    leave_part(tmp_path, DATA[:1000])
    server.script = ["other range"]
    part = tmp_path / "cache/weights.pdparams.part"
    with pytest.raises(requests.ConnectionError, match="another part"):
        download._receive(tag_of(server).url, part)
    assert not part.exists()


def test_a_part_that_is_whole_is_kept(server, tmp_path):
    leave_part(tmp_path, DATA)
    assert fetched(tag_of(server)).read_bytes() == DATA
    assert len(server.seen) == 1  # answered 416


@pytest.mark.parametrize("etag", ["", 'W/"one"'])
def test_without_a_version_that_stands_for_the_bytes_nothing_is_continued(server, etag):
    server.etag, server.script = etag, ["cut"]
    assert fetched(tag_of(server)).read_bytes() == DATA
    assert [r for _, r, _ in server.seen] == [None, None]


def test_a_wrong_file_in_the_cache_is_named_and_not_replaced(server, tmp_path):
    target = tmp_path / "cache/weights.pdparams"
    target.parent.mkdir()
    target.write_bytes(OTHER)
    with pytest.raises(UserError, match=r"is not the file of m\.t") as caught:
        fetched(tag_of(server))
    assert caught.value.hint == f"rm {target}" and target.read_bytes() == OTHER
    assert not server.seen


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    path = fetched(tag_of(server))
    before = sorted(path.parent.iterdir())
    path.parent.chmod(0o500)
    assert fetched(tag_of(server)) == path  # needs no lock
    path.parent.chmod(0o700)
    assert sorted(path.parent.iterdir()) == before
    monkeypatch.setenv("PPCLS_LITE_HOME", str(path / "below a file"))
    with pytest.raises(UserError, match=r"cannot be kept in .*: Not a directory") as caught:
        fetched(tag_of(server))
    assert "PPCLS_LITE_HOME" in caught.value.hint


def test_a_full_disk(server, tmp_path):
    # /dev/full takes no byte; the part is a link to it.
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/weights.pdparams.part").symlink_to("/dev/full")
    (tmp_path / "cache/weights.pdparams.version").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be kept in .*: No space left on device"):
        fetched(tag_of(server))


def test_the_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PPCLS_LITE_HOME", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("PPCLS_LITE_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/ppcls-lite"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x/ppcls-lite"


def test_the_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    tag = tag_at("http://weights.invalid/models")  # no such host: only the proxy can answer
    assert fetched(tag).read_bytes() == DATA
    assert server.seen[0][0] == "http://weights.invalid/models/weights.pdparams"


FETCH = """
import sys
from ppcls_lite.weights.published import fetch
from ppcls_lite.weights.tags import WeightTag
from ppcls_lite.data.preprocess import Preprocess
print(fetch(WeightTag("m", "t", sys.argv[1], sys.argv[2], "", Preprocess(), None, None, "")).path)
"""


def start_fetch(tag):
    command = [sys.executable, "-c", FETCH, tag.url, tag.digest]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)


def test_processes_that_ask_together_download_once(server, tmp_path):
    server.script = ["slow"]
    asked = [start_fetch(tag_of(server)) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in asked]
    assert [process.returncode for process in asked] == [0, 0, 0], answers
    assert {out.strip() for out, _ in answers} == {str(tmp_path / "cache/weights.pdparams")}
    assert len(server.seen) == 1
    assert sum("waiting for the process that downloads" in err for _, err in answers) == 2


def test_a_killed_download_holds_nobody_up_and_goes_on(server, tmp_path):
    server.script = ["slow"]
    process = start_fetch(tag_of(server))
    part = tmp_path / "cache/weights.pdparams.part"
    while not (part.exists() and part.stat().st_size >= 100_000):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    had = part.stat().st_size
    assert fetched(tag_of(server)).read_bytes() == DATA
    assert server.seen[-1] == ("/weights.pdparams", f"bytes={had}-", '"one"')


def test_the_table_of_weights():
    assert len({str(tag) for tag in WEIGHTS}) == len(WEIGHTS)
    assert len({tag.file_name for tag in WEIGHTS}) == len(WEIGHTS)  # they share a folder
    lengths = {"md5": 32, "sha256": 64}
    for tag in WEIGHTS:
        assert (tag.url.startswith("https://") or tag.shipped or tag.package) and tag.source
        if tag.digest:
            algorithm, _, digits = tag.digest.partition(":")
            assert re.fullmatch("[0-9a-f]{8,}", digits) and len(digits) <= lengths[algorithm]
            assert len(digits) == lengths[algorithm] or f"-{digits}.pth" in tag.url


def test_what_pretrained_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    for path in ("exported", "output/best.pdparams", "nowhere.pth", "weights.ckpt"):
        assert str(resolve_pretrained(path, "mobilenet_v3_small")) == path
    assert str(resolve_pretrained("mobilenet_v3_small.torchvision_v1")) == (
        "mobilenet_v3_small.torchvision_v1"
    )
    for text, model in (("ssld", "MobileNetV3_large_x1_0"), ("MobileNetV3_large_x1_0.ssld", None)):
        tag = resolve_pretrained(text, model)
        assert isinstance(tag, WeightTag) and (tag.model, tag.tag) == (
            "MobileNetV3_large_x1_0", "ssld",
        )  # fmt: skip
    for text, model in (("default", "mobilenet_v3_large"), ("mobilenet_v3_large", None)):
        assert resolve_pretrained(text, model) == tags_of("mobilenet_v3_large")[0]


@pytest.mark.parametrize(
    ("text", "model", "message"),
    [
        ("mnasnet0_5.torchvison_v1", None, "did you mean mnasnet0_5.torchvision_v1"),
        ("mnasnet0_5.torchvision_v1", "mnasnet1_0", "of mnasnet0_5, the model is mnasnet1_0"),
        ("ssld", "mnasnet0_5", "those of mnasnet0_5: mnasnet0_5.torchvision_v1"),
        ("default", "showlo_mobilenetv3_large", "no published weights"),
    ],
)  # fmt: skip
def test_what_pretrained_cannot_mean(text, model, message):
    with pytest.raises(UserError, match=message):
        resolve_pretrained(text, model)
