# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# lib.sh - real rootless Podman, in a world of its own
#
# For test scripts, which begin with
#
#     . "$(dirname "$0")/lib.sh"
#     podman_world
#
# That runs the script again in new mount, PID, network, IPC and UTS namespaces, so that
# everything goes with it, however it ends: each process, mount, device, and the user.
#
#     client  eth0 198.18.0.2, fd00:1::2
#       |
#     host    eth0 198.18.0.1, fd00:1::1    where the script is, and Podman
#       `---- containers of the user fwd-test, with storage in $dir
#
# The user exists in copies of passwd(5) and subuid(5) only. The image "peer" has
# nothing but peer(.c) in it. Output is TAP, without a plan.
#
# $dir is a tmpfs that nobody else sees, $client a process in the client's namespace.

user_id=64242
engine=crun
failed=0

skip_all() {
  echo "ok - podman::all # SKIP $*"
  exit 0
}

# What Podman needs, and what making the world needs.
podman_requirements() {
  [ "$(id -u)" -eq 0 ] || skip_all "only root can make the user and the network of these tests"
  for program in podman conmon newuidmap slirp4netns unshare nsenter setpriv ip ldd; do
    command -v "$program" >/dev/null || skip_all "there is no $program"
  done
  command -v crun >/dev/null || engine=runc
  command -v "$engine" >/dev/null || skip_all "there is neither crun nor runc"
}

podman_world() {
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  podman_requirements
  if [ "${FWD_PODMAN_WORLD:-}" != inside ]; then
    here=$(cd "$(dirname "$0")" && pwd)
    FWD=$(realpath "${FWD:-build/fwd}") PEER=$(realpath "${BUILD:-build}/tests/podman/peer")
    dir=$(mktemp -d /tmp/fwd-podman.XXXXXX)
    chmod 755 "$dir"
    trap 'rmdir "$dir"' EXIT
    export FWD PEER dir FWD_PODMAN_WORLD=inside
    set -- unshare --mount --net --ipc --uts --pid --fork --kill-child --mount-proc
    "$@" true 2>/dev/null || skip_all "namespaces cannot be made here"
    "$@" sh "$here/$(basename "$0")"
    exit
  fi
  world_files || skip_all "mounts or devices cannot be made here"
  world_user
  world_network || skip_all "network devices cannot be made here"
  world_image
  out=$(as_user podman run --rm --network=none peer /peer 2>&1)
  [ $? -eq 2 ] || skip_all "podman does not work here: $(echo "$out" | tail -n 1)"
}

world_files() {
  mount --make-rshared / && mount -t tmpfs -o mode=755 none "$dir" || return
  mkdir -p "$dir/etc" "$dir/bin" "$dir/image" "$dir/home/.config/containers" "$dir/run" "$dir/tmp"
  cp "$FWD" "$dir/bin/fwd" && cp "$PEER" "$dir/bin/peer" || return
  # Others than root may use it, as udev has it in most systems.
  mknod "$dir/tun" c 10 200 && chmod 666 "$dir/tun" && mkdir -p /dev/net || return
  [ -e /dev/net/tun ] || : >/dev/net/tun
  mount --bind "$dir/tun" /dev/net/tun
  # crun wants cgroup v2 alone; where that is what there is already, this is the same again.
  if [ "$engine" = crun ] && ! mount -t cgroup2 none /sys/fs/cgroup; then
    engine=runc
  fi
}

world_user() {
  for file in passwd group subuid subgid; do
    [ -e "/etc/$file" ] || : >"/etc/$file"
    cp "/etc/$file" "$dir/etc/$file"
  done
  echo "fwd-test:x:$user_id:$user_id::$dir/home:/bin/sh" >>"$dir/etc/passwd"
  echo "fwd-test:x:$user_id:" >>"$dir/etc/group"
  echo "fwd-test:1000000000:65536" | tee -a "$dir/etc/subuid" >>"$dir/etc/subgid"
  for file in passwd group subuid subgid; do
    mount --bind "$dir/etc/$file" "/etc/$file"
  done
  cat >"$dir/home/.config/containers/containers.conf" <<EOF
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$engine"
[network]
network_backend = "netavark"
EOF
  printf '[storage]\ndriver = "vfs"\n' >"$dir/home/.config/containers/storage.conf"
  chown -R "$user_id:$user_id" "$dir/home" "$dir/run" "$dir/tmp"
  chmod 700 "$dir/run"
}

world_network() {
  unshare --net sleep 100000 &
  client=$!
  # Until it is in there.
  while [ "$(readlink /proc/$client/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
  ip link set lo up &&
    ip link add eth0 type veth peer name eth0 netns "$client" &&
    ip address add 198.18.0.1/24 dev eth0 &&
    ip address add fd00:1::1/64 dev eth0 nodad &&
    ip link set eth0 up &&
    in_client ip address add 198.18.0.2/24 dev eth0 &&
    in_client ip address add fd00:1::2/64 dev eth0 nodad &&
    in_client ip link set eth0 up
}

# The program and its libraries, and no more.
world_image() {
  cp "$PEER" "$dir/image/peer"
  ldd "$PEER" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' |
    while read -r library; do
      mkdir -p "$dir/image$(dirname "$library")"
      cp -L "$library" "$dir/image$library"
    done
  tar -C "$dir/image" -cf "$dir/image.tar" .
  as_user podman import -q "$dir/image.tar" peer >/dev/null 2>&1
}

# ---------------------------------------------------------------- for scripts

as_user() {
  setpriv --reuid $user_id --regid $user_id --clear-groups env -i PATH="$PATH" \
    HOME="$dir/home" XDG_RUNTIME_DIR="$dir/run" TMPDIR="$dir/tmp" \
    sh -c 'cd "$HOME" && exec "$@"' sh "$@"
}

# Podman as the user, its output only where it fails.
pod() {
  as_user podman "$@" >"$dir/pod.out" 2>&1 || {
    sed 's/^/# /' "$dir/pod.out"
    return 1
  }
}

in_client() {
  nsenter --net="/proc/$client/ns/net" "$@"
}

# What the application says of the client: tcp or udp, by address and port.
ask() {
  in_client "$dir/bin/peer" ask "$@"
}

# The address that it sees, without the port.
seen() {
  ask "$@" | cut -d ' ' -f 1
}

# expect WHAT IS WANTED
expect() {
  [ "$2" = "$3" ] && return
  echo "# $1: '$2' instead of '$3'"
  return 1
}

# Try until it succeeds, for ten seconds: for what sends no event.
eventually() {
  end=$(($(date +%s) + 10))
  until "$@" >"$dir/eventually.out" 2>&1; do
    if [ "$(date +%s)" -ge $end ]; then
      sed 's/^/# /' "$dir/eventually.out"
      return 1
    fi
    sleep 0.05
  done
}

# check SUITE::NAME [VARIANT]: run the function of that NAME; 77 is that a program is missing.
check() {
  ("${1#*::}")
  case $? in
  0) echo "ok - $1${2:+_$2}" ;;
  77) echo "ok - $1${2:+_$2} # SKIP a program is missing" ;;
  *)
    echo "not ok - $1${2:+_$2}"
    failed=$((failed + 1))
    ;;
  esac
}
