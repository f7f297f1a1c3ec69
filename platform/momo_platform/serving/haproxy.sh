#!/bin/sh
# HAProxy as Ray Serve starts it, with its pages of statistics on loopback only: Ray's template binds
# them to every address of the machine, and no setting changes that. And with its own port at the
# address that the user asked for, where the replicas' stay on loopback.
for file in "$@"; do
  if [ "$before" = "-f" ]; then
    sed -i -E \
      "s/^( *bind )(\*|):($RAY_SERVE_HAPROXY_STATS_PORT|$RAY_SERVE_HAPROXY_METRICS_PORT)\$/\1127.0.0.1:\3/" "$file"
    if [ -n "$MOMO_FRONT_HOST" ]; then
      sed -i -E "s/^( *bind )127\.0\.0\.1:$MOMO_FRONT_PORT\$/\1$MOMO_FRONT_HOST:$MOMO_FRONT_PORT/" "$file"
    fi
  fi
  before=$file
done
exec "$MOMO_HAPROXY" "$@"
