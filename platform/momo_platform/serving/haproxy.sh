#!/bin/sh
# HAProxy as Ray Serve starts it, with what no setting changes of Ray's template:
# - its pages of statistics on loopback only, where the template binds them to every address;
# - its own port at the address that the user asked for, where the replicas' stay on loopback;
# - headers that come too slowly end with 408;
# - its own answers, when no replica can give one, as the endpoint's: JSON, 503, Retry-After.
fault() {
  printf '    http-error status %s content-type application/json string "{\\"error\\": {\\"message\\": \\"%s\\", \\"type\\": \\"%s\\", \\"param\\": null, \\"code\\": %s}}" hdr X-Content-Type-Options nosniff hdr Cache-Control no-store %s\n' \
    "$1" "$2" "$3" "$1" "$4"
}
for file in "$@"; do
  if [ "$before" = "-f" ]; then
    sed -i -E \
      "s/^( *bind )(\*|):($RAY_SERVE_HAPROXY_STATS_PORT|$RAY_SERVE_HAPROXY_METRICS_PORT)\$/\1127.0.0.1:\3/" "$file"
    if [ -n "$FRONT_HOST" ]; then
      sed -i -E "s/^( *bind )127\.0\.0\.1:$FRONT_PORT\$/\1$FRONT_HOST:$FRONT_PORT/" "$file"
    fi
    if ! grep -q "http-error status 503" "$file"; then
      {
        printf '    timeout http-request 10s\n    timeout http-keep-alive 60s\n'
        fault 400 "no HTTP request that could be read" invalid_request_error
        fault 408 "the request's headers came too slowly" invalid_request_error
        fault 502 "the replica ended: try again" server_error "hdr Retry-After 1"
        fault 503 "no replica answers yet: try again" server_error "hdr Retry-After 1"
        fault 504 "no replica answered in time" server_error "hdr Retry-After 1"
      } > "$file.faults"
      sed -i -E -e "/^ *errorfile 50[234] /d" -e "/^defaults/r $file.faults" "$file"
      rm -f "$file.faults"
    fi
  fi
  before=$file
done
exec "$FRONT_HAPROXY" "$@"
