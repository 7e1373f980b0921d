# One image holds the three services:
#
#   docker build -t lakehouse-iterate .
#   docker run -p 127.0.0.1:50053:50051 -v ./roster:/roster -e VALIDATED_ROSTER__PATH=/roster/workers.csv lakehouse-iterate validated
#
# The base is pinned to a release. To pin it to the byte, put the digest that your registry has for it (`docker buildx
# imagetools inspect python:3.11.13-slim-bookworm`) behind the tag: --build-arg BASE=python:3.11.13-slim-bookworm@sha256:…
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/lakehouse
# lake.txt: with what `lakehouse sessions publish` and `--table` need.
ARG LOCK=server.txt
COPY requirements/server.txt requirements/lake.txt requirements/
RUN python -m pip --python /opt/lakehouse/bin/python install --no-cache-dir --no-compile --require-hashes -r requirements/${LOCK}
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY protos protos
COPY services services
COPY examples examples
RUN python -m pip --python /opt/lakehouse/bin/python install --no-cache-dir --no-deps . \
 && /opt/lakehouse/bin/python -m compileall -q -j 0 /opt/lakehouse/lib

FROM ${BASE}
# Nothing is installed in a running container: pip, of which nobody would update the copies, is not in it.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip setuptools wheel \
 && rm -rf "$(python -c 'import os; print(os.path.dirname(os.__file__))')/ensurepip" \
 && groupadd --system --gid 10001 lakehouse \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/lakehouse --shell /usr/sbin/nologin lakehouse \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/lakehouse/gateway
COPY --from=build /opt/lakehouse /opt/lakehouse
COPY deploy/entrypoint.sh /usr/local/bin/lakehouse-entrypoint
ENV PATH=/opt/lakehouse/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /var/lib/lakehouse
EXPOSE 50051
ENTRYPOINT ["/usr/local/bin/lakehouse-entrypoint"]
# Readiness. LAKEHOUSE_HEALTH_ADDRESS where `bind` is another port or a socket; by TLS with LAKEHOUSE_CA, _CERT and _KEY.
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=6 \
  CMD exec python -m lakehouse.server.health_probe "${LAKEHOUSE_HEALTH_ADDRESS:-127.0.0.1:50051}"
# Last, so that images made for one service each share every layer: docker build --build-arg SERVICE=iterate .
ARG SERVICE=
ENV SERVICE=${SERVICE}
