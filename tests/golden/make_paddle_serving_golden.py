"""What Paddle Serving's own message class prints and serialises.

    pip download --no-deps --python-version 38 --only-binary=:all: paddle-serving-client==0.9.0
    unzip paddle_serving_client-0.9.0-*.whl -d WHEEL
    python tests/golden/make_paddle_serving_golden.py WHEEL > tests/golden/paddle_serving.json

Its generated module does not load beside today's protobuf: the description in it is read as text.
"""

import ast
import json
import re
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

source = Path(sys.argv[1]) / "paddle_serving_client/proto/general_model_config_pb2.py"
literal = re.search(r"serialized_pb=_b\(('(?:[^'\\]|\\.)*')", source.read_text()) or re.search(
    r"serialized_pb=(b'(?:[^'\\]|\\.)*')", source.read_text()
)
value = ast.literal_eval(literal[1])
data = value if isinstance(value, bytes) else value.encode("latin1")
pool = descriptor_pool.DescriptorPool()
file = descriptor_pb2.FileDescriptorProto.FromString(data)
pool.Add(file)
config = message_factory.GetMessageClass(
    pool.FindMessageTypeByName(f"{file.package}.GeneralModelConfig")
)()
# As `save_model` of the wheel's io module sets them.
feed = config.feed_var.add(name="input", alias_name="input", feed_type=1, is_lod_tensor=False)
feed.shape.extend([3, 64, 64])
name = "softmax_0.tmp_0"
fetch = config.fetch_var.add(name=name, alias_name=name, fetch_type=1, is_lod_tensor=False)
fetch.shape.extend([10])
print(json.dumps({"text": str(config), "stream": config.SerializeToString().hex()}, indent=1))
