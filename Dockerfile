# One image for the server, the HTTP gateway and the simulated worker: `queue-manager serve` is what it runs where nothing
# else is said; `gateway` and `simulated-worker` are the other two.
# `make image` builds it. Where the usual registries cannot be reached:
#   make image BASE_IMAGE=registry.example.com/python:3.12-slim PIP_INDEX_URL=https://pypi.example.com/simple
ARG BASE_IMAGE=docker.io/library/python:3.12-slim

FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL=https://pypi.org/simple
ENV PIP_INDEX_URL=${PIP_INDEX_URL} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gen gen
COPY server server
COPY client client
COPY gateway gateway
RUN python -m venv /opt/queue-manager \
    && /opt/queue-manager/bin/pip install --constraint constraints.txt '.[server,gateway]' \
    && /opt/queue-manager/bin/python -m compileall -q /opt/queue-manager \
    && install -d -o 65532 -g 65532 /var/lib/queue-manager

FROM ${BASE_IMAGE}
COPY --from=build /opt/queue-manager /opt/queue-manager
COPY --from=build --chown=65532:65532 /var/lib/queue-manager /var/lib/queue-manager
# Nothing is written but the state below QM_DATA_DIR, so the root file system may be read-only.
ENV PATH=/opt/queue-manager/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    QM_DATA_DIR=/var/lib/queue-manager
WORKDIR /var/lib/queue-manager
USER 65532:65532
# gRPC and metrics of the server, HTTP of the gateway.
EXPOSE 50051 9090 8080
# The server's; a gateway is run with `--no-healthcheck`, and asked at /health/live. Kubernetes reads none of it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["queue-manager", "probe", "liveness"]
ENTRYPOINT ["queue-manager"]
CMD ["serve"]
