# One short command for each habit; .ci/run runs the same.
.PHONY: all format lint types test test-slow docs docs-check dist site nano

SCRIPTS := $(wildcard docs/make_*.py)
PAGES := README.md $(wildcard docs/*.md)
COG := python -m cogapp -I docs -p 'from cog_shell import sh'

all: lint types docs-check test

format:
	ruff format . && ruff check --fix .
lint:
	ruff check . && ruff format --check .
types:
	python .ci/check_types.py
test:
	python -m pytest -q -n 2 --dist loadfile
test-slow:
	python -m pytest -q -m slow -n 2 --dist worksteal
docs:
	for script in $(SCRIPTS); do python $$script || exit 1; done
	$(COG) -r $(PAGES)
docs-check:
	for script in $(SCRIPTS); do python $$script --check || exit 1; done
	$(COG) --check --diff $(PAGES)
# What is published, in dist/: the wheel is built from the sdist, and both are checked.
dist:
	rm -rf dist
	python -m build --no-isolation
	python -m twine check --strict dist/*
	check-wheel-contents dist/*.whl
# The pages of docs/ in build/site.
site:
	python -m zensical build --strict --clean
# nano's weights from nothing; the same command goes on after an interruption. docs/models.md says what it needs.
nano:
	LD_PRELOAD=libtcmalloc_minimal.so.4 python -m smolcli.nano.train --out runs/nano
	python -m smolcli.nano.export runs/nano/checkpoint.pt
	python -m smolcli.nano.evaluate --tesseract > runs/nano/measured.jsonl
	python -m smolcli.nano.evaluate --table runs/nano/measured.jsonl
