#!/usr/bin/bash
# PID 1 of a guest that is server and client at once: one tree over each file server that its kernel can mount, the
# same works on it. A line `bench: SERVER WORK BUSY_US` for each; `bench: absent SERVER REASON` for one that does not run.
# Served files lie in memory. 9P has the options that `goblin mount` chooses for this kernel. Caches of the client are
# dropped before each work. Three works are done once more with $DELAY between the two ends, each way: for them the time
# counts in which nobody had anything to do.
DELAY=250us
MSIZE=520216
export PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t

say() { echo "bench: $*" > /dev/console; }
end() { say end; while :; do sleep 1000; done; }
# A pipeline, not its first part alone, has to work.
set -o pipefail

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec > /tmp/log 2>&1 < /dev/null
mkdir -p /srv /mnt /run/samba /var/lib/nfs /var/lib/samba/private /var/cache/samba /var/log/samba
mount -t tmpfs -o size=1200m srv /srv
while read -r module; do insmod "/modules/$module"; done < /modules/order
ip link set lo up

# The machine's time less that in which it had nothing to do, in microseconds.
busy() {
  local cpu user nice system idle waiting rest
  read -r cpu user nice system idle waiting rest < /proc/stat
  now=$((${EPOCHREALTIME/./} - (idle + waiting) * 10000))
}

# What is measured of a work: its busy time, or `waits` the rest of its time.
measured=busy
waits() { busy; now=$((${EPOCHREALTIME/./} - now)); }

work() {
  local name=$1 start
  shift
  sync
  echo 3 > /proc/sys/vm/drop_caches
  $measured; start=$now
  if ! "$@" > /tmp/out 2>&1; then
    say "failed $server $name: $(tail -n 1 /tmp/out)"
    return 1
  fi
  $measured
  say "$server $name $((now - start))"
}

TREE="./fs/btrfs ./fs/ext4 ./fs/nfs ./fs/smb"
tar_in() { tar --extract --file /tree.tar -C "${1:-/mnt}" $TREE && sync; }
tar_out() { tar --create -C /mnt $TREE | cat > /dev/null; }
git_status() { test -z "$(git -C /mnt status --porcelain)"; }
write_in_order() { dd if=/dev/zero of=/mnt/big bs=1M count=16 conv=fsync; }
read_in_order() { dd if=/mnt/big of=/dev/null bs=1M; }

far() { tc qdisc add dev lo root netem delay "$DELAY" limit 100000; measured=waits; }
near() { tc qdisc del dev lo root; measured=busy; }

# `on_mount MOUNT OPTIONS..`: the works on a mount of /srv/$server.
on_mount() {
  local attempt
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    "$@" /mnt > /tmp/mount 2>&1 && break
    sleep 1
  done
  if ! grep -q " /mnt " /proc/mounts; then
    # What mount says is short; the kernel and the server know more.
    { dmesg | tail -n 4; tail -n 6 /tmp/log; } > /dev/console
    say "absent $server $(head -n 1 /tmp/mount)"
    return
  fi
  work tar_in tar_in && work tar_out tar_out || return
  # What git remembers of each file has to be what this mount says of it.
  git init --quiet -b main /mnt && git -C /mnt config core.fileMode false &&
    git -C /mnt config core.compression 0 && git -C /mnt add fs &&
    git -C /mnt commit --quiet -m first && git -C /mnt status > /dev/null
  work git_status git_status && work write write_in_order && work read read_in_order || return
  rm /mnt/big
  far
  work git_status_far git_status && work tar_out_far tar_out && mkdir /mnt/again &&
    work tar_in_far tar_in /mnt/again
  near
  umount /mnt || say "absent $server cannot be unmounted"
  rm -rf "/srv/$server"
}

over_9p() {
  on_mount mount -i -t 9p -o "trans=tcp,version=9p2000.L,uname=root,access=any,msize=$MSIZE,cache=readahead,$1" 127.0.0.1
}

# No server at all: what the works themselves cost.
server=local
mkdir /srv/$server
on_mount mount --bind /srv/$server

server=ours
mkdir /srv/$server
share-server 127.0.0.1:5640 10000 data=/srv/$server &
over_9p port=5640,aname=data
kill $!

# The same server behind its keys, as people mount it.
server=goblin
mkdir /srv/$server /tmp/keys
serve-keys /srv/$server /tmp/keys 5642 > /tmp/keys/said < /dev/null &
until grep -q '^code' /tmp/keys/said; do sleep 1; done
code=$(grep "^code" /tmp/keys/said)
goblin login 127.0.0.1:5642 "${code#code }" --name box
on_mount goblin mount box:data
kill $!

server=diod
mkdir /srv/$server
diod -f -n -N -l 127.0.0.1:5641 -L stderr -e /srv/$server -c /dev/null &
over_9p port=5641,aname=/srv/$server
kill $!

server=nfs
mkdir /srv/$server
mount -t nfsd nfsd /proc/fs/nfsd
# A server that just started waits for clients of before.
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
echo "/srv/$server 127.0.0.1(rw,no_root_squash,insecure,no_subtree_check,fsid=0)" > /etc/exports
exportfs -a
rpc.mountd --no-nfs-version 3 --foreground &
rpc.nfsd --no-nfs-version 3 --no-udp 4
sleep 15
on_mount mount -i -t nfs4 -o "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1" 127.0.0.1:/
rpc.nfsd 0
kill $!

server=samba
mkdir /srv/$server
smbd --foreground --no-process-group --configfile=/etc/smb.conf &
on_mount mount -i -t cifs -o "ip=127.0.0.1,guest,vers=3.1.1,noperm" //127.0.0.1/data
kill $!
end
