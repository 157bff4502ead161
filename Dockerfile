# The operator: kopf, the Kubernetes client and the code that decides. No torch.
#
#   docker build --tag REGISTRY/score-distill/operator:0.1.0 .
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY requirements/operator.lock requirements/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements/operator.lock
RUN python3 -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir hatchling==1.27.0
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN PATH=/opt/build/bin:$PATH pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:${PYTHON}
COPY --from=build /opt/venv /opt/venv
COPY operator/main.py /app/operator/main.py
# kopf asks for a user's name, and uid 65532 has none. Nothing of the working folder can be imported by accident.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    USER=score-operator \
    HOME=/tmp
USER 65532:65532
WORKDIR /app
EXPOSE 8080 9090
CMD ["kopf", "run", "--standalone", "--all-namespaces", "--liveness=http://0.0.0.0:8080/healthz", "/app/operator/main.py"]
