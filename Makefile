# `make` alone prints this help. `make report` and `make test` need only Python >= 3.11 with venv, make and git.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh
PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
DEV_STAMP := $(VENV)/installed-dev
.NOTPARALLEL:

# These count on the command line alone, which is stronger than an assignment here. Else a variable of the environment would
# slip in: Windows' WSL sets NAME to that of the machine.
$(foreach variable,NAME RECIPE SEED SPLITS EPOCHS SOURCE SCALING SET MODEL FOLDS ENGINE COMPARE REPO AUTHORS COURSE TITLE QUICK, \
	$(eval $(variable) :=))

comma := ,
# A quote in a value must not end the quotes around it.
option = $(if $($(1)),--$(2) '$(subst ','\'',$($(1)))')

##@ Main

report: $(STAMP) ## make reports/NAME: run the notebooks, write the HTML  (NAME RECIPE SET MODEL SEED ...)
	@$(BIN)/python -m digitlib report $(call option,NAME,name) $(call option,RECIPE,recipe) $(call option,SEED,seed) \
		$(call option,SPLITS,splits) $(call option,EPOCHS,epochs) $(call option,SOURCE,source) $(call option,SCALING,scaling) \
		$(call option,SET,set) $(call option,MODEL,model) $(call option,FOLDS,folds) $(call option,ENGINE,engine) \
		$(if $(filter-out 0 no false,$(COMPARE)),--compare)

test: lint ## run all tests, lint first
	@if command -v npm >/dev/null && [ ! -d tests/browser/node_modules ]; then npm ci --silent --prefix tests/browser || true; fi
	@$(BIN)/python -m pytest -n 3 --dist loadfile

lab: $(STAMP) ## open JupyterLab on notebooks/
	@$(BIN)/jupyter lab --notebook-dir=. notebooks/1_eda.ipynb

##@ Hand-in

pdf: $(STAMP) ## print reports/NAME as one PDF, through an installed Chromium or Chrome  (NAME)
	$(if $(NAME),,$(error NAME is missing: make pdf NAME=coursework prints reports/coursework))
	@$(BIN)/python -m digitlib pdf $(call option,NAME,name)

colab: $(STAMP) ## write dist/colab/digits_complete.ipynb, which carries the package with it  (REPO=owner/name: install from there)
	@$(BIN)/python -m digitlib colab $(call option,REPO,repo)

submission: $(STAMP) ## write dist/NAME-submission.zip, to be handed in  (NAME AUTHORS COURSE TITLE)
	$(if $(and $(NAME),$(AUTHORS),$(COURSE),$(TITLE)),,$(error make submission needs NAME, AUTHORS, COURSE and TITLE, as in make submission NAME=mine AUTHORS="..." COURSE="..." TITLE="..."))
	@$(BIN)/python -m digitlib submission $(call option,NAME,name) $(call option,AUTHORS,authors) \
		$(call option,COURSE,course) $(call option,TITLE,title)

##@ Development

lint: $(DEV_STAMP) ## check style, types, and that notebooks are stripped of outputs
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: $(DEV_STAMP) ## time and score everything, beside a yardstick  (QUICK=1: under two minutes)
	@$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick)

size: $(STAMP) ## print how large each module is, and what is capped
	@$(BIN)/python tools/size.py

format: $(DEV_STAMP) ## format the code, strip the notebooks
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet . ; $(BIN)/nbstripout notebooks/*.ipynb

dist: $(DEV_STAMP) ## build the wheel and the source archive in dist/
	@$(BIN)/hatchling build

# soupsieve 3 needs Python 3.11.5, Debian 12 has 3.11.2. What else is too new for a Python that is promised, a test tells.
lock: ## write requirements.lock anew: newest versions that pyproject.toml allows (torch stays)
	"$(PYTHON)" -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)" 'soupsieve<3' '.[report,picture,dev]'
	(echo '# Exact versions, used as pip constraints. Made by `make lock`.'; \
		$(VENV)-lock/bin/python -m pip freeze --exclude digitlib | sed 's/+cpu$$//') > requirements.new
	mv requirements.new requirements.lock; rm -rf $(VENV)-lock

clean: ## remove the virtual environment and what tests and builds leave; reports stay
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables of `make report`, all optional:\n'
	@printf '  %-20s %s\n' 'NAME=mine' 'folder under reports/            (the recipe, or the MODEL file)' \
		'RECIPE=coursework' 'training recipe                  (coursework)' \
		'SEED=0' 'weights, order and dropout       (0)' \
		'SET="dropout=0.3"' 'settings in place of the recipe, ; between them' \
		'MODEL=mine.py' 'a file with a model of your own  (see the README)' \
		'SPLITS=4' 'folds of the cross-validation    (4)' \
		'FOLDS=kfold' 'kfold or stratified              (kfold)' \
		'EPOCHS=10' 'passes over the training images  (what the recipe says)' \
		'SOURCE=bundled' 'bundled, uci, sklearn or a CSV   (bundled)' \
		'SCALING=train' 'rows the scaler sees; all: leaky  (train)' \
		'ENGINE=dask://HOST:8786' 'where folds run                  (here)' \
		'COMPARE=1' 'also compare with other classifiers, in the same folds' \
		'PYTHON=python3.12' 'interpreter for a new .venv      (python3)'

# ---- the virtual environment -------------------------------------------------------------------------------------
# `place` in .venv names the folder in which pip last came to its end. An environment without it was not finished (a package
# cut off in the middle can look installed); one that names another folder was moved, and its programs look for that folder.
# Such a one, or one whose Python was upgraded away, is set up afresh. A stamp older than the lock: it is updated.
FIT = [ -x $(BIN)/python ] && [ "$$(cat $(VENV)/place 2>/dev/null)" = "$$(pwd -P)" ]
UNFIT := $(shell $(FIT) || echo unfit)

# Called with the extras and the stamps; whether the environment is fit is asked again when it runs. What pip says is shown where
# it fails. Settings of pip that send packages elsewhere do not count.
install = @"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is missing or older than 3.11; name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	if $(FIT); then echo "updating $(VENV)"; \
	else echo "setting up $(VENV) (a minute or two, once)"; "$(PYTHON)" -m venv --clear $(VENV) || exit 1; fi; \
	rm -f $(VENV)/place; env -u PIP_TARGET -u PIP_PREFIX PIP_USER=0 $(BIN)/python -m pip install --disable-pip-version-check \
		-c requirements.lock -e '.[$(1)]' >$(VENV)/pip.log || { tail -n 20 $(VENV)/pip.log >&2; exit 1; }; \
	pwd -P >$(VENV)/place && touch $(2)

$(STAMP): requirements.lock pyproject.toml $(UNFIT)
	$(call install,report$(comma)picture,$(STAMP))

# What development needs holds what reports need: one installation makes both stamps.
$(DEV_STAMP): requirements.lock pyproject.toml $(UNFIT)
	$(call install,report$(comma)picture$(comma)dev,$(STAMP) $(DEV_STAMP))

.PHONY: report test lab pdf colab submission lint bench format dist lock clean help unfit
