"""Names what is on a picture: python tools/predict.py --pretrained output/best.pdparams --img-path cat.jpg"""

from _bootstrap import main

if __name__ == "__main__":
    main(__file__)
