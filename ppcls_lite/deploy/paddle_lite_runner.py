"""Runs a .nb file: python paddle_lite_runner.py MODEL.nb IMAGES.npy ANSWERS.npy

For the interpreter that has paddlelite, Python 3.7 at most; needs nothing of this package.
"""

import sys

import numpy as np
from paddlelite.lite import MobileConfig, create_paddle_predictor

model, images, answers = sys.argv[1:]
config = MobileConfig()
config.set_model_from_file(model)
predictor = create_paddle_predictor(config)
rows = []
for image in np.load(images):  # [N, 3, H, W]
    predictor.get_input(0).from_numpy(image[np.newaxis])
    predictor.run()
    rows.append(predictor.get_output(0).numpy().copy())  # it is a view of the next answer, too
np.save(answers, np.concatenate(rows))
