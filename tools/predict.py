"""Names what is on an image: python tools/predict.py --pretrained WEIGHTS --img-path IMAGE"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
