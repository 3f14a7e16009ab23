#!/bin/sh
# Runs as the first process of new namespaces: makes the folder $1 the root, shows the checkout $2 in
# it, and runs a Docker engine there until standard input ends, in whichever way its writer does.
# Mounts, addresses, rules of the firewall and processes are gone when this process is.
set -eu
root=$1 checkout=$2 cgroup=$3

ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root$checkout" "$root/outside"
mount --bind "$checkout" "$root$checkout"
mount -o remount,bind,ro "$root$checkout"
cd "$root"
pivot_root . outside
exec chroot . /bin/sh -c '
  umount --lazy /outside
  dockerd --cgroup-parent "$0" </dev/null &
  cat >/dev/null
  kill $!
  wait $!
' "$cgroup"
