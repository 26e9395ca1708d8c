"""Folders for Paddle Serving, held against what its own converter writes."""

import json
import re

import pytest
from conftest import ROOT, run_tool

from ppcls_lite import cli
from ppcls_lite.commands.export_paddle_serving import run
from ppcls_lite.deploy.paddle_serving import description
from ppcls_lite.deploy.settings import PaddleServingConvertConfig
from ppcls_lite.deploy.sidecar import read_sidecar
from ppcls_lite.errors import UserError

# Made by the message class of paddle_serving_client 0.9.0.
THEIRS = json.loads((ROOT / "tests/golden/paddle_serving.json").read_text())


def test_the_description_is_what_their_own_message_prints_and_serialises():
    text, stream = description("input", [3, 64, 64], "softmax_0.tmp_0", [10])
    assert text == THEIRS["text"]
    assert stream.hex() == THEIRS["stream"]


def test_the_documents_command_writes_both_folders(exported, tmp_path):
    done = run_tool(
        "tools/paddle_serving_convert.py", "--dirname", f"{exported}/",
        "--model_filename", "inference.pdmodel", "--params_filename", "inference.pdiparams",
        "--serving_server", tmp_path / "serving_server",
        "--serving_client", tmp_path / "serving_client",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert names == {
        "serving_server/inference.pdmodel",
        "serving_server/inference.pdiparams",
        "serving_server/serving_server_conf.prototxt",
        "serving_server/serving_server_conf.stream.prototxt",
        "serving_client/serving_client_conf.prototxt",
        "serving_client/serving_client_conf.stream.prototxt",
    }
    server, client = tmp_path / "serving_server", tmp_path / "serving_client"
    for name in ("inference.pdmodel", "inference.pdiparams"):
        assert (server / name).read_bytes() == (exported / name).read_bytes()
    text = (server / "serving_server_conf.prototxt").read_text()
    (name,) = set(re.findall(r'fetch_var {\n  name: "(.*)"', text))
    assert name == read_sidecar(exported).outputs["inference.pdmodel"]["name"]
    assert text == THEIRS["text"].replace("softmax_0.tmp_0", name)
    assert (client / "serving_client_conf.prototxt").read_text() == text
    stream = description("input", [3, 64, 64], name, [10])[1]
    for path in (
        server / "serving_server_conf.stream.prototxt",
        client / "serving_client_conf.stream.prototxt",
    ):
        assert path.read_bytes() == stream


def test_what_cannot_be_converted_is_told(exported, tmp_path):
    def convert(*flags):
        return run(cli.parse(PaddleServingConvertConfig, flags, "paddle_serving_convert.py"))

    with pytest.raises(UserError, match=r"reads \.pdmodel only"):
        convert(f"--dirname={exported}", "--model_filename=inference.json")
    with pytest.raises(UserError, match="no file"):
        convert(f"--dirname={tmp_path}")
