#!/bin/sh
# HAProxy as Ray Serve starts it, with what no setting changes of Ray's template:
# - its pages of statistics on loopback only, where the template binds them to every address;
# - its own port at the address that the user asked for, where the replicas' stay on loopback;
# - headers that come too slowly end with 408;
# - its own answers, when no replica can give one, as the endpoint's: JSON, 503, Retry-After.
#   (What is no HTTP at all, or too slow, it refuses before any setting counts, in its own words.)
body() {
  printf '"{\\"error\\": {\\"message\\": \\"%s\\", \\"type\\": \\"%s\\", \\"param\\": null, \\"code\\": \\"%s\\"}}" hdr X-Content-Type-Options nosniff hdr Cache-Control no-store' "$1" "$2" "$3"
}
fault() {
  printf '    http-error status %s content-type application/json string %s %s\n' \
    "$1" "$(body "$3" "$4" "$2")" "$5"
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
        fault 400 invalid_request "no HTTP request that could be read" invalid_request_error
        fault 408 request_timeout "the request's headers came too slowly" invalid_request_error
        fault 500 internal_error "the service failed" server_error "hdr Retry-After 1"
        fault 502 bad_gateway "the replica ended: try again" server_error "hdr Retry-After 1"
        fault 503 overloaded "no replica answers yet: try again" server_error "hdr Retry-After 1"
        fault 504 timeout "no replica answered in time" server_error "hdr Retry-After 1"
      } > "$file.faults"
      sed -i -E -e "/^ *errorfile 50[234] /d" -e "/^defaults/r $file.faults" "$file"
      rm -f "$file.faults"
      # Before an application runs; Serve's template says it in plain text, with 404.
      none=$(body "no model is served yet: try again" server_error overloaded)
      {
        printf '    http-request return status 503 content-type application/json string %s hdr Retry-After 1\n' "$none"
      } > "$file.none"
      sed -i -E -e "/^backend default_backend/r $file.none" -e "/^ *http-request return status 404 content-type text.plain lf-string .Path/d" "$file"
      rm -f "$file.none"
    fi
  fi
  before=$file
done
exec "$FRONT_HAPROXY" "$@"
