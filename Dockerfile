# One image recipe for the three services: docker build --build-arg SERVICE=iterate .
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/server.txt requirements/
RUN python -m venv /opt/lakehouse \
 && /opt/lakehouse/bin/pip install --no-cache-dir --require-hashes -r requirements/server.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY protos protos
COPY services services
COPY examples examples
RUN /opt/lakehouse/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
ARG SERVICE
ENV SERVICE=${SERVICE} PATH=/opt/lakehouse/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --user-group --no-create-home lakehouse \
 && install -d -o lakehouse -g lakehouse -m 0750 /var/lib/lakehouse/gateway
COPY --from=build /opt/lakehouse /opt/lakehouse
USER lakehouse
WORKDIR /var/lib/lakehouse
EXPOSE 50051
# `exec`: the service is process 1 and gets SIGTERM itself.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"$SERVICE\" \"$@\"", "service"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
  CMD ["python", "-m", "lakehouse.server.health_probe", "127.0.0.1:50051"]
