# Run by a real systemd, after its basic targets: a share by the units that `goblin mount --print-unit` writes. A line
# `units: ..` for each thing seen; `units: failed WHAT` ends it, `units: end` too.
export PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C
say() { echo "units: $*" > /dev/ttyS0; }
fail() {
  say "failed: $*"
  { systemctl status --no-pager --full "$unit.mount" "$unit.automount"; journalctl --no-pager -n 30; } > /dev/ttyS0 2>&1
  say end
  exit 1
}
# Waits for what systemd does by itself; asks, and never longer than the guest is given.
until_true() { until "$@" > /dev/null 2>&1; do sleep 0.2; done; }
is() { systemctl is-active --quiet "$1"; }
gone() { ! is "$1"; }
# The brackets keep it from finding itself.
relay_pid() { grep -lz -- '--foregroun[d]' /proc/[0-9]*/cmdline 2> /dev/null | head -n 1 | cut -d/ -f3; }
no_relay() { test -z "$(relay_pid)"; }

unit='srv-a\x2dhome'
dir=/srv/a-home
ip link set lo up
mkdir -p /data /keys
systemd-run --quiet --unit=box serve-keys /data /keys 5642
until code=$(journalctl --unit=box --no-pager --output=cat 2> /dev/null | sed -n 's/^code //p') && test -n "$code"; do sleep 0.2; done
goblin login 127.0.0.1:5642 "$code" --name box > /tmp/login 2>&1 || fail "login: $(cat /tmp/login)"
goblin mount box:data "$dir" --print-unit --unit-dir /etc/systemd/system > /tmp/steps || fail "units"
# What it says is to be done is done, word by word.
sed -n 's/^  //p' /tmp/steps > /tmp/todo
test -s /tmp/todo || fail "it does not say what to do"
bash -e /tmp/todo > /tmp/done 2>&1 || fail "$(cat /tmp/done)"
is "$unit.automount" || fail "the automount does not run"
is "$unit.mount" && fail "mounted before anybody looked"
test -z "$(relay_pid)" || fail "a relay before anybody looked"
say "enabled; nothing is mounted yet"

echo one > "$dir/file" || fail "writing at the first access"
is "$unit.mount" || fail "the access did not start the mount"
grep -q "^box:data $dir 9p " /proc/mounts || fail "not mounted by the kernel's client: $(grep "$dir" /proc/mounts)"
test "$(cat /data/file)" = one || fail "what was written is not in the box"
say "mounted by the first access"

systemctl stop "$unit.mount" || fail "stopping the mount"
until_true no_relay
test "$(cat "$dir/file")" = one || fail "the next access does not mount it again"
say "stopped, its relay too; mounted again by the next access"

# A relay that dies: every call fails, and the mount can be had again.
kill -9 "$(relay_pid)"
cat "$dir/file" > /dev/null 2>&1 && fail "a mount without a relay answers"
systemctl restart "$unit.mount" || fail "restarting the mount whose relay died"
test "$(cat "$dir/file")" = one || fail "not there after a restart"
say "a relay that died is replaced by a restart of the unit"

# The box goes for a while, as the unit's processes stay.
systemctl kill --signal=STOP box
( cat "$dir/file" > /tmp/read; echo done > /tmp/was-read ) &
sleep 1
test -e /tmp/was-read && fail "a box that stands still answered"
systemctl kill --signal=CONT box
wait
test "$(cat /tmp/read)" = one || fail "reading on after the box stood still"
say "a box that stands still is waited for"

# As at the end of the system: what is mounted goes before the network.
systemctl stop remote-fs.target "$unit.automount" "$unit.mount" || fail "the end"
grep -q " $dir " /proc/mounts && fail "still mounted at the end"
until_true no_relay
systemctl is-failed --quiet "$unit.mount" && fail "the mount ended as failed"
say "stopped with everything remote"
say end
