"""Train, resume or evaluate; `python train.py --help` explains.

python train.py --data-path ./ILSVRC2012
python train.py --test-only --data-path ./ILSVRC2012 --pretrained output/best.pdparams
python -m paddle.distributed.launch --nproc_per_node=2 train.py --data-path ./ILSVRC2012
"""

import sys

from ppcls_lite.__main__ import run_command

if __name__ == "__main__":
    run_command("train", sys.argv[1:], "train.py")
