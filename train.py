"""Train, resume or evaluate; `python train.py --help` explains.

python train.py --data-path ./ILSVRC2012
python train.py --test-only --data-path ./ILSVRC2012 --pretrained output/best.pdparams
python -m paddle.distributed.launch --nproc_per_node=2 train.py --data-path ./ILSVRC2012
"""

from ppcls_lite.__main__ import run_file

if __name__ == "__main__":
    run_file(__file__)
