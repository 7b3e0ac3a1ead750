# One short command for each habit; .ci/run runs the same.
.PHONY: format lint types test docs all
all: lint types docs-check test

format:
	ruff format . && ruff check --fix .
lint:
	ruff check . && ruff format --check .
types:
	mypy -p smolcli -p converters
test:
	python -m pytest -q
docs:
	python docs/make_commands.py
docs-check:
	python docs/make_commands.py --check
