"""Names what is on a picture: python tools/predict.py --pretrained WEIGHTS --img-path PICTURE"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
