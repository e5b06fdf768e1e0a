#!/bin/sh
# Runs a command beside a throw-away PostgreSQL: PGHOST (a socket directory), PGPORT, PGUSER and
# PGDATABASE are set for it. The cluster is UTF-8, collation C, time zone UTC, and is gone
# afterwards. Exit status: the command's, or 77 when PostgreSQL is not installed.
#
# usage: tests/lib/postgres.sh command [argument...]
#   POSTGRES_OPTIONS  further server options, e.g. "-c wal_level=logical"
set -eu

if [ $# -eq 0 ] || [ "$1" = "--help" ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
fi

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
if [ -z "$bin" ] || [ ! -x "$bin/initdb" ]; then
    echo "PostgreSQL is not installed: skipped" >&2
    exit 77
fi

dir=$(mktemp -d /tmp/tailrace-pg.XXXXXX)
# The server refuses to run as root.
as() {
    if [ "$(id -u)" -eq 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}
stop() {
    as "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$dir"
fi
chmod 755 "$dir"
cd "$dir"
as "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --lc-collate=C \
    --no-sync >"$dir/initdb.log" 2>&1 || {
    cat "$dir/initdb.log" >&2
    exit 1
}
# No TCP at all: the port only names the socket, so any number of these can run at once.
as "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/server.log" -o "-c listen_addresses= -k $dir -p 5432 \
    -c fsync=off -c full_page_writes=off -c TimeZone=UTC -c max_stack_depth=2MB \
    ${POSTGRES_OPTIONS:-}" start >/dev/null || {
    cat "$dir/server.log" >&2
    exit 1
}
cd "$OLDPWD"
PGHOST=$dir PGPORT=5432 PGUSER=postgres PGDATABASE=postgres "$@"
