#!/bin/sh
# HAProxy as Ray Serve starts it, with its pages of statistics on loopback only: Ray's template binds
# them to every address of the machine, and no setting changes that.
for file in "$@"; do
  [ "$before" = "-f" ] && sed -i -E \
    "s/^( *bind )(\*|):($RAY_SERVE_HAPROXY_STATS_PORT|$RAY_SERVE_HAPROXY_METRICS_PORT)\$/\1127.0.0.1:\3/" "$file"
  before=$file
done
exec "$MOMO_HAPROXY" "$@"
