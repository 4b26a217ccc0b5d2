#!/bin/sh
# Runs what it is told, as the entrypoint of Kong's image does.
# Started as root it hands the prefix to the user kong and goes on as that user.
set -eu

# A bare sub-command is meant for the gateway.
case "${1:-}" in
    start | docker-start | version | check | health | migrations) set -- tollgate "$@" ;;
esac

if [ "$(id -u)" = 0 ]; then
    chown kong:kong "${KONG_PREFIX:-/usr/local/kong}"
    exec setpriv --reuid=kong --regid=kong --init-groups "$@"
fi
exec "$@"
