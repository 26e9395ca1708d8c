# make setup  packages into .venv, for every command of the docs
# make docs   the docs as pages to browse, in site/: needs requirements-docs.txt
# make run    set up, train on real images, evaluate, predict, export, compare: a few minutes
# make test   set up, run the tests
# make check  lint and the tests that start no process and train nothing: an answer in minutes
# make lint   formatting, lint, types
# make bench  every table of docs/performance.md: DATA=images WEIGHTS=best.pdparams TORCH=python-with-torch
# make int8   the tables of docs/measurements/int8*.md: DATA=images WEIGHTS=best.pdparams or a tag, SIZE=224
#             beside another checkout and LitServe: VERSUS=build:PATH,PYTHON LITSERVE=python-with-litserve
#             a look at all of it in minutes: FLAGS="--calibration-images 8 --eval-images 8 --train-images 8"
# make campaign-serving  a server under everything at once: MINUTES=30 SEED=0
# make tipc   test chains, CPU subset: docs/tipc.md
# make campaign-data  wrong labels and copies planted in DATA=pictures, and how many check_data finds: SEED=0
# make campaign-training  faults at random on trainings of two machines: MINUTES=30 SEED=0

VENV   ?= .venv
PYTHON ?= $(VENV)/bin/python
PYTHON3 ?= python3
FITS    = import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
OUT    ?= output/lite
PICTURE = lite_data/val/sneaker/00009.png
DATA    ?= lite_data
MINUTES ?= 30
SEED    ?= 0
WEIGHTS ?= $(OUT)/best.pdparams
TORCH   ?= $(PYTHON)
# Two files of tests at a time, in the order of tests/conftest.py; 2 GB each.
SPREAD  ?= -n 2 --dist loadfile --no-loadscope-reorder
BENCH    = $(PYTHON) tools/benchmark.py
CPP      = $(wildcard $(foreach folder,ppcls_lite/kernels ppcls_lite/data deploy/cpp tests,$(folder)/*.cc $(folder)/*.h))
INT8     = $(PYTHON) tools/quantize.py --table --pretrained $(WEIGHTS) --data-path $(DATA) $(FLAGS)
SIZE    ?= 224
PEERS    = $(if $(VERSUS),--versus $(VERSUS))
SERVER   = $(if $(LITSERVE),--versus-command "$(LITSERVE) ppcls_lite/benchmark/litserve_peer.py {folder} {port} 2")
FASTEST  = --data-path $(DATA) --pretrained $(WEIGHTS) $(PEERS) --json

.PHONY: setup docs run test check lint bench int8 tipc campaign-serving campaign-training campaign-data clean

setup: $(VENV)/.run

run: $(VENV)/.run lite_data
	$(PYTHON) train.py -c configs/lite.yaml --output-dir $(OUT)
	$(PYTHON) train.py --test-only --data-path lite_data --pretrained $(OUT)/best.pdparams --confusion-matrix
	$(PYTHON) tools/predict.py --pretrained $(OUT)/best.pdparams --img-path $(PICTURE)
	$(PYTHON) tools/export_model.py --pretrained $(OUT)/best.pdparams --save-inference-dir $(OUT)/inference
	$(PYTHON) tools/plot_run.py --run $(OUT)
	$(PYTHON) tools/compare.py --pretrained $(OUT)/best.pdparams --exported $(OUT)/inference --img-path $(PICTURE)

test: $(VENV)/.dev
	$(PYTHON) -m pytest $(SPREAD) --durations=60

check:
	$(MAKE) --jobs=2 lint quick

quick: $(VENV)/.dev
	$(PYTHON) -m pytest --check $(SPREAD)

lint: $(VENV)/.dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(dir $(PYTHON))clang-format --dry-run --Werror $(CPP)
	$(PYTHON) -m mypy

bench: $(VENV)/.run
	$(BENCH) train --versus bf16,paddle,torch,torch.compile --versus-python $(TORCH) --json
	$(BENCH) train --batch-size 8,128 --versus bf16,paddle,torch --versus-python $(TORCH) --rounds 3 --steps 2 --json
	$(BENCH) train --size 96,32 --versus bf16,paddle,torch --versus-python $(TORCH) --rounds 3 --json
	$(BENCH) train --processes 2 --batch-size 16 --versus bf16,paddle,torch --versus-python $(TORCH) --rounds 3 --json
	$(BENCH) train --model mobilenet_v3_large --versus bf16,paddle,torch --versus-python $(TORCH) --rounds 3 --json
	$(BENCH) train --model mnasnet1_0 --versus bf16,paddle,torch --versus-python $(TORCH) --rounds 3 --json
	$(BENCH) epoch --data-path $(DATA) --rounds 1 --versus bf16,paddle,torch --versus-python $(TORCH) --json
	$(BENCH) eval --data-path $(DATA) --pretrained $(WEIGHTS) --rounds 3 --json
	$(BENCH) loader --data-path $(DATA) --imagenet-sized --decode exact,fast --workers 0,1,2 --versus torch --versus-python $(TORCH) --json
	$(BENCH) infer --data-path $(DATA) --pretrained $(WEIGHTS) --batch-size 1,32 --threads 1,0 --plot $(OUT)/engines.png --json
	$(BENCH) serve --data-path $(DATA) --pretrained $(WEIGHTS) --int8 --clients 8,32 --json

int8: $(VENV)/.int8
	$(INT8) --target accelerator
	$(INT8) --target accelerator --outliers 100
	$(INT8) --target onnxruntime
	$(INT8) --target openvino
	$(INT8) --target tflite
	$(BENCH) infer --size $(SIZE) --batch-size 1 --threads 1 --rounds 3 --steps 60 $(FASTEST)
	$(BENCH) infer --size $(SIZE) --batch-size 8,32 --threads 2 --rounds 2 --steps 8 $(FASTEST)
	$(BENCH) serve --int8 --clients 8,32 --rounds 2 --seconds 4 $(SERVER) $(FASTEST)

tipc: $(VENV)/.dev
	$(PYTHON) -m ppcls_lite.tipc cpu

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

campaign-serving: $(VENV)/.dev
	$(PYTHON) tests/faults/campaign_serving.py --minutes $(MINUTES) --seed $(SEED)

campaign-training: $(VENV)/.dev
	$(PYTHON) tests/faults/campaign_training.py --minutes $(MINUTES) --seed $(SEED)

campaign-data: $(VENV)/.dev
	$(PYTHON) tests/faults/campaign_data.py --data-path $(DATA) --seed $(SEED)

clean:
	rm -rf $(VENV) site lite_data output test_tipc/output pretrain_models inference .pytest_cache .mypy_cache .ruff_cache

lite_data: test_images/lite_data.tar
	tar -xf $<
	@touch $@

# The folder exists for both; each stamp is newer than the list of packages it was made from.
$(VENV)/.run: requirements.txt
	@test -x $(PYTHON) || $(PYTHON3) -c '$(FITS)' || { echo "$$($(PYTHON3) --version) does not do: 3.10 to 3.12 is needed"; \
	  echo "  next: make $(MAKECMDGOALS) PYTHON3=python3.11"; exit 2; }
	test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@echo "Installing requirements.txt into $(VENV): about 1.3 GB, a minute or two."
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.run requirements-docs.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

$(VENV)/.int8: $(VENV)/.dev requirements-openvino.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-openvino.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt requirements-serving.txt requirements-docs.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-serving.txt -r requirements-docs.txt -r requirements-dev.txt
	@touch $@
