#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh - show fwd at work, and check that what is shown is true
#
#     client                        host                   container
#     198.18.0.2, fd00::2    eth0 ------ eth0   fwd ~~~~~~  nginx, lo only,
#     198.18.1.2, fd00:1::2  eth1 ------ eth1               in a user namespace
#
# Client and host are network namespaces; nothing touches the machine's own
# network. All of it belongs to an unprivileged user: started as root, the
# demonstration first becomes nobody. Exit status 0 only if everything that it
# promises was so.
#
# Environment: BUILD (default: build), where fwd is.

set -eu
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# For what must not outlive this script. fwd ends with the container.
dies_with_us='setpriv --pdeathsig KILL'

say() {
  printf '\n%s\n' "$*"
}

fail() {
  printf '\nFAILED: %s\n' "$*" >&2
  exit 1
}

# wait_for WHAT COMMAND...: at most five seconds.
wait_for() {
  what=$1
  shift
  tries=100
  until "$@" 2>/dev/null; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || fail "$what: not within five seconds"
    sleep 0.05
  done
}

# ---------------------------------------------------------------- as the caller

# Nobody may not be allowed to read where we are: take fwd and this script along.
outside() {
  build=${BUILD:-build}
  [ -x "$build/fwd" ] || fail "$build/fwd is not there: make"
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  trap 'exit 130' INT TERM
  cp "$build/fwd" "$0" "$dir"
  as_user=
  if [ "$(id -u)" -eq 0 ]; then
    chown -R 65534:65534 "$dir"
    as_user='setpriv --reuid 65534 --regid 65534 --clear-groups'
  fi
  $as_user unshare --user --map-root-user --net true ||
    fail "unprivileged user namespaces are refused here: see tests/deps namespaces"
  cd "$dir"
  $as_user unshare --user --map-root-user --net --fork --kill-child \
    "$dir/${0##*/}" --in "$dir"
}

# ---------------------------------------------------------------- the two hosts

# In the network namespace of the client.
client() {
  nsenter --net="/proc/$client_pid/ns/net" -- "$@"
}

# device SIDE NUMBER: addresses of one end of a link.
device() {
  ip address add "198.18.$2.$1/24" dev "eth$2"
  ip address add "fd00:$2::$1/64" dev "eth$2" nodad
  ip link set "eth$2" up
}

make_hosts() {
  $dies_with_us unshare --net sleep 600 &
  client_pid=$!
  wait_for 'the client' is_apart net "$client_pid"
  ip link set lo up
  for i in 0 1; do
    ip link add "eth$i" type veth peer name "eth$i" netns "$client_pid"
    device 1 $i
  done
  client "$self" --client
}

# is_apart KIND PID: the process has a namespace of its own.
is_apart() {
  [ "$(readlink "/proc/$2/ns/$1")" != "$(readlink "/proc/self/ns/$1")" ]
}

# ---------------------------------------------------------------- the container

write_nginx_conf() {
  cat >nginx.conf <<'END'
user root;
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events { }
http {
  log_format demo '$remote_addr port $remote_port: "$request" $status';
  access_log access.log demo;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen 80;
    listen [::]:80;
    location / { return 200 "hello from the container\n"; }
  }
}
END
}

make_container() {
  write_nginx_conf
  $dies_with_us unshare --user --map-root-user --net \
    nginx -e stderr -p "$dir" -c "$dir/nginx.conf" &
  container_pid=$!
  wait_for 'nginx' test -s nginx.pid
}

# ---------------------------------------------------------------- what is shown

# As a user of the host: no capability, not even in its own namespaces.
run_fwd() {
  set -- ./fwd --pid fwd.pid --log-file fwd.log --netns "$container_pid" -t '%eth0/8080:80'
  say '$' "$@"
  status=0
  setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@" >fwd.out 2>&1 || status=$?
  sed 's/^/    /' fwd.out
  [ $status -eq 0 ] || fail "fwd ended with status $status"
  echo "Exit status 0: it is in the background, and the port is open."
}

# fetch URL: and check what nginx says of it.
fetch() {
  say "\$ curl $1        # on the client"
  told=$(client curl -sS --noproxy '*' --max-time 5 \
    -w '%{local_ip} port %{local_port}' "$1") || fail "no answer from $1"
  body=${told%
*}
  client_is=${told##*
}
  echo "    $body"
  [ "$body" = "hello from the container" ] || fail "another answer was expected"
  wait_for "nginx's log line" grep -q "^$client_is: " access.log
  echo "nginx in the container logged:"
  echo "    $(tail -n 1 access.log)"
  echo "and the client says that it was $client_is."
}

# unreachable URL
unreachable() {
  say "\$ curl $1        # the other device of the host"
  status=0
  client curl -sS --noproxy '*' --max-time 5 "$1" 2>curl.err || status=$?
  sed 's/^/    /' curl.err
  # 7: could not connect. A time-out, or any answer, would be something else.
  [ $status -eq 7 ] || fail "curl was expected to be refused, and ended with $status"
}

show_counters() {
  # shellcheck disable=SC2016
  say '$ kill -USR1 "$(cat fwd.pid)"'
  kill -USR1 "$(cat fwd.pid)"
  wait_for 'counters' grep -q 'tcp %eth0/8080:80: .* source 2 kept, 0 ' fwd.log
  sed -n 's/^[^ ]* \(tcp .*\)/    \1/p' fwd.log
}

ended() {
  ! kill -0 "$1"
}

show_end() {
  say "The container ends; so does fwd:"
  fwd_pid=$(cat fwd.pid)
  kill "$container_pid"
  wait "$container_pid" || true
  wait_for 'the end of fwd' ended "$fwd_pid"
  echo "    $(tail -n 1 fwd.log | sed 's/^[^ ]* //')"
  [ ! -e fwd.pid ] || fail "the pid file is still there"
}

# ---------------------------------------------------------------- main

# In the namespaces of the host; the user is root here, and nobody outside.
inside() {
  self=$0
  dir=$1
  say "Two hosts, joined by two links, and a rootless container with only lo:"
  make_hosts
  make_container
  echo "    host       198.18.0.1 and fd00::1 on eth0, 198.18.1.1 and fd00:1::1 on eth1"
  echo "    client     198.18.0.2 and fd00::2 on eth0, 198.18.1.2 and fd00:1::2 on eth1"
  echo "    container  process $container_pid, nginx on port 80"
  run_fwd
  fetch 'http://198.18.0.1:8080/'
  fetch 'http://[fd00::1]:8080/'
  unreachable 'http://198.18.1.1:8080/'
  unreachable 'http://[fd00:1::1]:8080/'
  show_counters
  show_end
  say "All as promised."
}

case ${1:-} in
--in) inside "$2" ;;
--client)
  ip link set lo up
  device 2 0
  device 2 1
  ;;
*) outside ;;
esac
