# Candlewire. Needs Python >= 3.11 and make; everything else is fetched once by `make setup`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
