# make run    set up, train on real pictures, evaluate, predict, export, compare: a few minutes
# make test   set up, run the tests
# make lint   formatting, lint, types

VENV   ?= .venv
PYTHON ?= $(VENV)/bin/python
OUT    ?= output/lite
PICTURE = lite_data/val/sneaker/00009.png

.PHONY: run test lint clean

run: $(VENV)/.run lite_data
	$(PYTHON) train.py -c configs/lite.yaml --output-dir $(OUT)
	$(PYTHON) train.py --test-only --data-path lite_data --pretrained $(OUT)/best.pdparams --confusion-matrix
	$(PYTHON) tools/predict.py --pretrained $(OUT)/best.pdparams --img-path $(PICTURE)
	$(PYTHON) tools/export_model.py --pretrained $(OUT)/best.pdparams --save-inference-dir $(OUT)/inference
	$(PYTHON) tools/plot_run.py --run $(OUT)
	$(PYTHON) tools/compare.py --pretrained $(OUT)/best.pdparams --exported $(OUT)/inference --img-path $(PICTURE)

test: $(VENV)/.dev
	$(PYTHON) -m pytest

lint: $(VENV)/.dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

clean:
	rm -rf $(VENV) lite_data output .pytest_cache .mypy_cache .ruff_cache

lite_data: test_images/lite_data.tar
	tar -xf $<
	@touch $@

# The folder exists for both; each stamp is newer than the list of packages it was made from.
$(VENV)/.run: requirements.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	@echo "Installing requirements.txt into $(VENV): about 1.3 GB, a minute or two."
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt requirements-serving.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-serving.txt -r requirements-dev.txt
	@touch $@
