#!/bin/sh
# What a container of the image runs: the service that is named first (or by SERVICE), or a command of the package.
#
#   docker run IMAGE iterate --check        docker run IMAGE lakehouse sessions ls --log PATH
#
# `exec` everywhere: the service is process 1 and gets SIGTERM itself.
set -eu

fail() {
    echo "lakehouse: $1" >&2
    echo "Name a service: docker run … IMAGE iterate | chatd | validated (or -e SERVICE=…); or run a command: lakehouse …" >&2
    exit 2
}

case ${1:-} in
iterate | chatd | validated)
    SERVICE=$1
    shift
    ;;
lakehouse | python | sh) exec "$@" ;;
-* | "") ;;
*) fail "$1 is no service and no command of this image." ;;
esac
case ${SERVICE:-} in
iterate | chatd | validated) ;;
"") fail "this image holds three services, and nothing says which one to run." ;;
*) fail "SERVICE is $SERVICE, which is no service." ;;
esac

# On 127.0.0.1, the default elsewhere, nobody outside the container could call it: here the default is every address of
# the container. What the environment or the configuration file says of `bind` stands.
bind=$(echo "$SERVICE" | tr '[:lower:]' '[:upper:]')_BIND
if ! printenv "$bind" >/dev/null; then
    file=${LAKEHOUSE_CONFIG:-}
    before=
    for argument in "$@"; do
        case $before,$argument in
        --config,*) file=$argument ;;
        *,--config=*) file=${argument#--config=} ;;
        esac
        before=$argument
    done
    # A file that cannot be read is for the service to explain.
    if [ -z "$file" ] || python -c '
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    table = tomllib.load(file).get(sys.argv[2], {})
sys.exit("bind" in table)' "$file" "$SERVICE" 2>/dev/null; then
        export "$bind=0.0.0.0:50051"
    fi
fi
exec python -m "$SERVICE" "$@"
