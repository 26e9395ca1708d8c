"""Folders for Paddle Serving, held against what its own converter writes."""

from pathlib import Path

import pytest
from conftest import run_tool
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from ppcls_lite import cli
from ppcls_lite.commands.paddle_serving_convert import run
from ppcls_lite.config import PaddleServingConvertConfig
from ppcls_lite.deploy.paddle_serving import PACKAGE, description
from ppcls_lite.errors import UserError

# FileDescriptorProto inside paddle_serving_client 0.9.0's general_model_config_pb2.py.
PROTO = Path(__file__).parent / "golden" / "paddle_serving_config.descriptor"
TEXT = """feed_var {
  name: "input"
  alias_name: "input"
  is_lod_tensor: false
  feed_type: 1
  shape: 3
  shape: 64
  shape: 64
}
fetch_var {
  name: "softmax_0.tmp_0"
  alias_name: "softmax_0.tmp_0"
  is_lod_tensor: false
  fetch_type: 1
  shape: 10
}
"""


def their_message():
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(PROTO.read_bytes()))
    found = pool.FindMessageTypeByName(f"{PACKAGE}.GeneralModelConfig")
    return message_factory.GetMessageClass(found)()


def test_the_description_is_what_their_own_message_prints_and_serialises():
    text, stream = description("input", [3, 64, 64], "softmax_0.tmp_0", [10])
    assert text == TEXT
    theirs = text_format.Parse(TEXT, their_message())
    assert stream == theirs.SerializeToString()
    assert text == str(theirs)  # what their converter writes


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
    read = text_format.Parse(text, their_message())
    assert list(read.feed_var[0].shape) == [3, 64, 64] and list(read.fetch_var[0].shape) == [10]
    assert text == TEXT.replace("softmax_0.tmp_0", read.fetch_var[0].name)
    assert (client / "serving_client_conf.prototxt").read_text() == text
    for path in (server / "serving_server_conf.stream.prototxt",
                 client / "serving_client_conf.stream.prototxt"):  # fmt: skip
        assert path.read_bytes() == read.SerializeToString()


def test_what_cannot_be_converted_is_told(exported, tmp_path):
    def convert(*flags):
        return run(cli.parse(PaddleServingConvertConfig, flags, "paddle_serving_convert.py"))

    with pytest.raises(UserError, match="reads .pdmodel only"):
        convert(f"--dirname={exported}", "--model_filename=inference.json")
    with pytest.raises(UserError, match="no file"):
        convert(f"--dirname={tmp_path}")
