# syntax=docker/dockerfile:1
# One image for every process: `docker run IMAGE python -m shared.runner credits`, `... python -m tools migrate`.

FROM python:3.11-slim-bookworm AS packages
WORKDIR /build
COPY requirements.lock deploy/runtime_requirements.py ./
# The lock also pins the tools of developers: they stay out of the image.
RUN python runtime_requirements.py <requirements.lock >runtime.lock \
    && python -m venv /opt/darkroom \
    && /opt/darkroom/bin/pip install --no-cache-dir --disable-pip-version-check --no-input \
        --require-hashes --requirement runtime.lock


FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Darkroom" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin darkroom
COPY --from=packages /opt/darkroom /opt/darkroom
WORKDIR /app
COPY deploy deploy
COPY shared shared
COPY services services
COPY tools tools
COPY clients/python/src clients/python/src
ENV PATH=/opt/darkroom/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EVENTLET_NO_GREENDNS=yes
RUN python -m compileall -q /app
USER 10001
# Each process answers /healthz, /readyz and /metrics on its ops port (<PROCESS>_OPS_ADDRESS).
EXPOSE 8000 9100
CMD ["python", "-m", "tools", "--help"]
