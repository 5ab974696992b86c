# Run by images.rs with the folder as $1. Needs root and the Debian archive that apt is set up for.
set -eu
W=${1:?work folder}; SUITE=${SUITE:-$(. /etc/os-release; echo "$VERSION_CODENAME")}; mkdir -p "$W"; cd "$W"
uri() { apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk -v c="$1" '$1==c{print $2; exit}'; }
MIRROR=${MIRROR:-$(uri $SUITE)}; SECMIRROR=${SECMIRROR:-$(uri $SUITE-security)}; [ -n "$MIRROR" ] && [ -n "$SECMIRROR" ] || { echo "set MIRROR and SECMIRROR"; exit 1; }
export SOURCE_DATE_EPOCH=1700000000 DEBIAN_FRONTEND=noninteractive
PK=systemd-sysv,udev,dbus,openssh-server,openssl,ca-certificates,curl,rsync,nftables,iproute2,lvm2,mdadm,btrfs-progs,e2fsprogs,smartmontools,nfs-kernel-server,zstd,python3-minimal
need() { for p; do dpkg -s "$p" >/dev/null 2>&1 || { apt-get install -y --no-install-recommends "$@" >/dev/null; return; }; done; }
need mmdebstrap erofs-utils zstd arch-test gpgv
M="deb $MIRROR $SUITE main"; S="deb $MIRROR $SUITE-updates main
deb $SECMIRROR $SUITE-security main"
root() { # NAME KERNELPKG SOURCES
  [ -e "$1/.done" ] && return; rm -rf "$1"
  printf '%s\n' "$3" | nice -n 5 mmdebstrap --quiet --variant=minbase --include="$PK,$2" --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' "$SUITE" "$1" - 2>"$1.log"
  chroot "$1" dpkg-query -W -f '${Package} ${Version}\n' > "$1.pkgs"
  ( cd "$1"; rm -rf boot/initrd* boot/System.map* boot/config* initrd* vmlinuz* var/lib/apt var/lib/dpkg var/cache/* var/log/* tmp/* etc/ssl/certs/java \
      usr/share/{doc,man,info,lintian,locale} var/lib/systemd/catalog/database dev/*; : > etc/machine-id
    find . -name __pycache__ -prune -exec rm -rf {} +; rm -f usr/lib/modules/*/modules.{dep,alias,symbols,builtin.alias,builtin,softdep,devname}*
    find . -exec touch -h -d @$SOURCE_DATE_EPOCH {} + ); touch "$1/../$1.ok"; touch -d @$SOURCE_DATE_EPOCH "$1/.done"; }
root v1 linux-image-cloud-amd64 "$M"
K1=$(grep -oE '^linux-image-[0-9][^ ]*' v1.pkgs)
root v2u "$K1" "$M
$S"
root v2k linux-image-cloud-amd64 "$M
$S"
# one fixed kernel folder name, as an image builder would do, so paths do not change with the version
for v in v1 v2u v2k; do ( cd $v; for d in usr/lib/modules/[0-9]*; do [ -d "$d" ] && mv "$d" usr/lib/modules/current; done
  for k in boot/vmlinuz-*; do [ -e "$k" ] && mv "$k" boot/vmlinuz; done; find usr/lib/modules boot -maxdepth 1 -exec touch -h -d @$SOURCE_DATE_EPOCH {} + ); done
export SOURCE_DATE_EPOCH
for v in v1 v2u v2k; do
  [ -e $v.tar ] || tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --numeric-owner --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --xattrs -C $v -cf $v.tar .
  [ -e $v.erofs ] || mkfs.erofs -T$SOURCE_DATE_EPOCH -U00000000-0000-4000-8000-000000000001 --quiet $v.erofs $v
done
