"""Makes a classifier of a folder of images: tools/finetune.py --data-path my_pictures"""

from _bootstrap import run_file

if __name__ == "__main__":
    run_file(__file__)
