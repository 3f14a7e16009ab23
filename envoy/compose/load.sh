#!/usr/bin/env bash
# The load of ../compose.yaml: `load.sh normal` for ever, `load.sh surge SECONDS` once.
set -u
# As the first process of a container bash ends by no signal that it does not know of.
trap exit INT TERM

export PGHOST=envoy PGPORT=10002 PGUSER=app PGDATABASE=postgres PGCONNECT_TIMEOUT=10

# One connection to the database that holds a place for half a second.
query() {
  psql --no-psqlrc --quiet --output=/dev/null --command='SELECT pg_sleep(0.5)'
}

# One request to the API; by bash itself, since the image has no HTTP client.
request() {
  local status=
  exec 3<>/dev/tcp/envoy/10000 || return
  printf 'GET / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n' >&3
  read -r -t 10 _ status _ <&3
  exec 3>&-
  [[ $status == 200 ]]
}

# About 20 connections and 10 requests a second.
normal() {
  # pgbench gives a client up that could not connect, and ends when it has none left.
  while sleep 1; do
    pgbench --no-vacuum --connect --client=4 --rate=20 --time=86400 \
      --file=<(echo 'SELECT pg_sleep(0.1);')
  done &
  for _ in {1..4}; do
    while sleep 0.2; do request; done &
  done
  wait
}

# 60 of each at once, and each again as soon as it is through or refused.
surge() {
  local end=$((SECONDS + $1))
  for _ in {1..60}; do
    while ((SECONDS < end)); do
      query && echo 'database: served' || echo 'database: refused'
    done &
    while ((SECONDS < end)); do
      request && echo 'API: served' || echo 'API: refused'
    done &
  done 2>/dev/null | sort | uniq -c
}

case ${1-} in
  normal) normal ;;
  surge) surge "${2:-60}" ;;
  *) echo "usage: load.sh normal | surge SECONDS" >&2; exit 2 ;;
esac
