#!/bin/sh
# Does what envoy/compose.yaml asks of the entry point of PostgreSQL's image, for the image that the
# test makes: a database of the user POSTGRES_USER, who needs no password.
set -eu
if [ "$1" = postgres ]; then
  [ "$POSTGRES_HOST_AUTH_METHOD" = trust ]
  initdb --username="$POSTGRES_USER" --auth=trust --locale=C --encoding=UTF8 --no-sync "$PGDATA"
  echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
  set -- "$@" -c 'listen_addresses=*' -c unix_socket_directories=/tmp
fi
exec "$@"
