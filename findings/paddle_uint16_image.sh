#!/usr/bin/env bash
# Question: a 16-bit grey image (PNG, numpy uint16) goes through paddle.to_tensor, ToTensor and a DataLoader. Which numbers come out?
# Guess:    an error, as for uint32; or an integer type, or the same numbers as floats.
# Seen:     a bfloat16 tensor whose bits are the pixels: 1000 is 1.4e-36, half grey is -0, white is NaN. assign and a wanted dtype of
#           float32 keep the numbers; from_dlpack says bfloat16 too, but its cast to float32 still finds 1000.
# Matters:  depth, X-ray and microscope images are uint16. Nothing is said, all shapes are right, and a network trains on noise that is
#           almost 0 for the darker half of the range and NaN for a few bright pixels.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.3.5 paddlepaddle==3.3.1 pillow==13.0.0
cat > "$work/expected" <<'EXPECTED'
numpy 2.3.5 paddlepaddle 3.3.1 pillow 13.0.0
the file: uint16 [0, 1000, 16256, 32768, 65535]
to_tensor                  bfloat16 0 1.364e-36 1 -0 nan
ToTensor                   bfloat16 0 1.364e-36 1 -0 nan
DataLoader                 bfloat16 0 1.364e-36 1 -0 nan
to_tensor, dtype float32   float32  0 1000 1.626e+04 3.277e+04 6.554e+04
assign                     bfloat16 0 1000 1.626e+04 3.277e+04 6.554e+04
from_dlpack                bfloat16 0 1000 1.626e+04 3.277e+04 6.554e+04
to_tensor of the list      int64    0 1000 1.626e+04 3.277e+04 6.554e+04
to_tensor of uint32        ValueError
to_tensor of int32         int32    0 1000 1.626e+04 3.277e+04 6.554e+04
EXPECTED
cd "$work"
"$work/venv/bin/python" - > "$work/seen" 2> "$work/log" <<'PYTHON' || { cat "$work/log"; exit 1; }
from importlib.metadata import version

import numpy as np
import paddle
from paddle.vision import transforms
from PIL import Image

print(*(f"{p} {version(p)}" for p in ("numpy", "paddlepaddle", "pillow")))
Image.fromarray(np.uint16([[0, 1000, 16256, 32768, 65535]])).save("grey.png")
pixels = np.asarray(Image.open("grey.png"))
print(f"the file: {pixels.dtype} {pixels.ravel().tolist()}")


class Pictures(paddle.io.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return pixels


def show(name, make):
    try:
        tensor = make()
    except (RuntimeError, ValueError) as error:
        print(f"{name:26} {type(error).__name__}")
        return
    kind = str(tensor.dtype).removeprefix("paddle.")
    print(f"{name:26} {kind:8}", *(f"{v:.4g}" for v in tensor.astype("float32").numpy().ravel()))


show("to_tensor", lambda: paddle.to_tensor(pixels))
show("ToTensor", lambda: transforms.ToTensor()(pixels[..., None]))
show("DataLoader", lambda: next(iter(paddle.io.DataLoader(Pictures(), return_list=True)))[0])
show("to_tensor, dtype float32", lambda: paddle.to_tensor(pixels, dtype="float32"))
show("assign", lambda: paddle.assign(pixels))
show("from_dlpack", lambda: paddle.from_dlpack(pixels.copy()))
show("to_tensor of the list", lambda: paddle.to_tensor(pixels.tolist()))
show("to_tensor of uint32", lambda: paddle.to_tensor(pixels.astype(np.uint32)))
show("to_tensor of int32", lambda: paddle.to_tensor(pixels.astype(np.int32)))
PYTHON
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
