#!/bin/sh
# A throwaway PostgreSQL for tests, on a free port of 127.0.0.1.
#
#   deploy/ci_postgres.sh start DIR   makes a cluster in DIR, starts it, prints its DSN (LAKEHOUSE_TEST_POSTGRES)
#   deploy/ci_postgres.sh stop DIR    stops it and removes DIR
#
# Needs Debian's package postgresql (apt-get install postgresql). PostgreSQL refuses to run as root: started by root, the
# cluster runs as the user postgres. fsync is off: what is in it is worth nothing.
set -eu

command=${1:?start or stop}
directory=${2:?a folder for the cluster}

binaries=${PG_BIN:-}
if [ -z "$binaries" ]; then
    for candidate in /usr/lib/postgresql/*/bin; do
        [ -x "$candidate/initdb" ] && binaries=$candidate
    done
fi
[ -n "$binaries" ] || { echo "ci_postgres: no PostgreSQL server found; apt-get install postgresql" >&2; exit 1; }

as_owner() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups --reset-env -- "$@"
    else
        "$@"
    fi
}

case $command in
start)
    mkdir -p "$directory"
    if [ "$(id -u)" = 0 ]; then chown postgres "$directory"; fi
    cd "$directory"
    as_owner "$binaries/initdb" -D "$directory/data" -U test -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$directory/initdb.log" 2>&1 ||
        { cat "$directory/initdb.log" >&2; exit 1; }
    # A port that is free now may be taken a moment later: then another one is tried.
    for attempt in 1 2 3 4 5; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
        if as_owner "$binaries/pg_ctl" -D "$directory/data" -w -t 60 -l "$directory/server.log" start \
            -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c synchronous_commit=off" \
            >/dev/null 2>&1; then
            echo "postgresql://test@127.0.0.1:$port/postgres"
            exit 0
        fi
    done
    cat "$directory/server.log" >&2
    exit 1
    ;;
stop)
    cd "$directory"
    as_owner "$binaries/pg_ctl" -D "$directory/data" -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$directory"
    ;;
*)
    echo "ci_postgres: start or stop, not $command" >&2
    exit 2
    ;;
esac
