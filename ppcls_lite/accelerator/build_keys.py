"""Every key of the build YAMLs of both eras."""

from collections.abc import Mapping
from typing import Any

ANY: Mapping[str, Any] = {}  # a value, or keys of any name
# Every key seen in about 140 published files; a key that is not here is a slip of the pen.
KEYS_1 = {
    "model": {"name": ANY, "inputs": ANY, "checkpoint": ANY},
    "engine": {
        "type": ANY,
        "common": {"do_quantization": ANY, "cluster_mode": ANY},
        "add_extra_ops_to_graph": {"type": ANY},
        "calibration": {
            "quant_mode": ANY, "per_channel": ANY, "skip_conv_layers": ANY, "ops_usingfp": ANY,
        },
    },
    "dataset": {
        "path": ANY, "sampler": {"suffix": ANY, "get_data_num": ANY}, "transform_ops": ANY,
    },
    "workspace": {"work_dir": ANY, "enable_ir": ANY, "save_log": ANY},
}  # fmt: skip
KEYS_2 = {
    "name": ANY,
    "frontend": {"type": ANY, "checkpoint": ANY, "dtype": ANY, "shape": ANY},
    "graph": {"extra_ops": {"type": ANY}},
    "backend": {
        "type": ANY,
        "dtype": ANY,
        "compile": {
            "cluster_mode": ANY, "data_transport_mode": ANY, "opt_level": ANY, "mem_inplace": ANY,
            "stream_mode": ANY, "enable_float_to_half": ANY, "data_type": ANY,
        },
        "quantize": {
            "calibrate_mode": ANY, "quantize_per_channel": ANY, "skip_conv_layers": ANY,
            "skip_matmul_layers": ANY, "exclude_layers": ANY, "ops_usingfp": ANY,
            "weight_scale": ANY, "calibrate_chunk_by": ANY, "calibrate_range": ANY,
            "overflow_adaptive": ANY, "quantize_mode": ANY, "requant_suppress": ANY,
        },
    },
    "dataset": {
        "type": ANY, "path": ANY, "sampler": {"suffix": ANY, "get_data_num": ANY},
        "process_ops": ANY,
    },
    "workspace": {"path": ANY},
}  # fmt: skip
OPS = {
    "DecodeImage": (),
    "Resize": ("size",),
    "CenterCrop": ("crop_size",),
    "Normalize": ("mean", "std", "div255"),
    "ToTensor": (),
    "CvtColor": ("code",),
    "CustomFunc": ("module_path", "func_name", "img_shape"),
}
