//! Where things live on a running board. One home for every path that two programs must agree on.

/// Run-time state of goblinux, on tmpfs; gone with a reboot.
pub const RUN: &str = "/run/goblin";
/// One folder per unit, owned by it: its sockets, and its parts of the board's status as JSON files that are
/// replaced by rename.
pub const RUN_STATE: &str = "/run/goblin/state";
/// PID 1's control socket: one [`crate::InitRequest`] line in, [`crate::InitReply`] lines out.
pub const INIT_SOCKET: &str = "/run/goblin/init.sock";
/// The updater's socket: one [`crate::UpdateCommand`] line in, [`crate::UpdateReply`] lines out.
pub const UPDATE_SOCKET: &str = "/run/goblin/state/update/update.sock";
/// Release files for the storage board, from the compute board's updater: one [`crate::ReleasesRequest`] line in,
/// a [`crate::ReleasesReply`] line and bytes out.
pub const RELEASES_SOCKET: &str = "/run/goblin/state/update/releases.sock";
/// The file server's socket: one [`crate::ShareCommand`] line in, [`crate::ShareReply`] lines out.
pub const SHARE_SOCKET: &str = "/run/goblin/state/share/share.sock";
/// The socket of the keeper of the system disks: one [`crate::DisksCommand`] line in, one [`crate::DisksReply`] line
/// out.
pub const DISKS_SOCKET: &str = "/run/goblin/state/disks/disks.sock";
/// The control tree, served as 9P2000.L on a unix socket.
pub const CONTROL_SOCKET: &str = "/run/goblin/state/control/control.9p";
/// Devices that come and go: [`crate::DeviceEvent`] lines, the first a snapshot; nothing is read from it.
pub const DEVICES_SOCKET: &str = "/run/goblin/state/devices/devices.sock";
/// D-Bus without a bus daemon, for programs of this board: `org.goblinux.Init1` and `org.goblinux.Update1`.
pub const DBUS_SOCKET: &str = "/run/goblin/state/dbus/dbus.sock";
/// The role's word and a newline, written by provisioning; absent while a board has none.
pub const ROLE_FILE: &str = "/run/goblin/role";
/// Resolver configuration written by the network agent; `/etc/resolv.conf` points here.
pub const RESOLV_CONF: &str = "/run/goblin/state/net/resolv.conf";
/// The EFI system partition, mounted read-only except while the updater writes.
pub const ESP: &str = "/run/goblin/esp";
/// Directory of the UKIs inside the ESP.
pub const ESP_LINUX: &str = "EFI/Linux";
/// Directory of the boot menu's entries that are no UKIs inside the ESP.
pub const ESP_ENTRIES: &str = "loader/entries";
/// The provisioning file inside the ESP, as `flash` wrote it.
pub const ESP_PROVISION: &str = "provision.toml";
/// The STATE partition: configuration, keys, logs, downloaded blobs.
pub const STATE: &str = "/state";
/// The provisioning file after it was applied; holds private keys: for root and [`KEYS_GROUP`] only.
pub const PROVISION: &str = "/state/config/provision.toml";
/// Group of the units that may read [`PROVISION`] without being root; a fixed number, for there is no
/// `/etc/group`.
pub const KEYS_GROUP: u32 = 70;
/// What applying the provisioning file did, a [`crate::ProvisionStatus`].
pub const PROVISION_RESULT: &str = "/state/config/provision-result.json";
/// Enrolled clients and rights to shares; storage board only, mode 0600.
pub const ACCESS: &str = "/state/config/access.json";
/// Runs of the file server that ended in order; storage board only.
pub const SHARE_RUNS: &str = "/state/config/share-runs.json";
/// Serial of the disk that a person made the mirror of the system disk, in JSON; `null` for none. Absent where the
/// provisioning file decides.
pub const SYSTEM_MIRROR: &str = "/state/config/system-mirror.json";
/// What people set of units, `UNIT.toml` each; see `goblin_init_core::settings`.
pub const UNIT_SETTINGS: &str = "/state/config/units";
/// The updater's store: verified metadata and blobs by digest.
pub const UPDATE_STORE: &str = "/state/update";
/// The journal: segments `NUMBER.gj` (16 hexadecimal digits), oldest first by number.
pub const JOURNAL: &str = "/state/journal";
/// Mount point of the storage board's pool.
pub const POOL: &str = "/pool";
/// One directory per share inside the pool.
pub const POOL_SHARES: &str = "/pool/shares";
/// Where the compute board mounts the storage board's shares, one directory per share.
pub const SHARES: &str = "/shares";
/// The release that is running, a JSON file inside the base image: `{"version": .., "notes": ..}`.
pub const RELEASE: &str = "/usr/lib/goblin/release.json";
/// Kernel modules of the base image, one folder per kernel release, with the indexes of `depmod`.
pub const MODULES: &str = "/usr/lib/modules";
/// Which modules a device may call in.
pub const MODULES_LIST: &str = "/etc/modules.toml";
/// Units of PID 1, one TOML file each, inside the base image.
pub const UNITS: &str = "/usr/lib/goblin/units";

/// Links to the devices of the system disk's partitions, named as in its GPT; made by the unit `state`, so
/// that others need not look into disks to find them.
pub const SYSTEM_DISK: &str = "/run/goblin/state/state";

/// Name below [`SYSTEM_DISK`] of a link to the boot record of the system disk's mirror, where there is one.
pub const OTHER_RECORD: &str = "goblin-record-other";

/// GPT name of the EFI system partition.
pub const PART_ESP: &str = "goblin-esp";
/// GPT name of the boot record's partition.
pub const PART_RECORD: &str = "goblin-record";
/// GPT name of the STATE partition.
pub const PART_STATE: &str = "goblin-state";

/// TCP port of the shares, 9P2000.L (registered for 9P).
pub const PORT_SHARES: u16 = 564;
/// TCP port of a board's control tree, for the other board, on the inter-board link only: on the storage board all
/// of it, on the compute board release files alone.
pub const PORT_CONTROL: u16 = 5641;
/// UDP port of the signed hello between boards, on every wired interface.
pub const PORT_HELLO: u16 = 5642;
/// Name of the virtio-serial port through which a test or `cargo xtask run` reaches the compute board.
pub const HOST_CHANNEL: &str = "goblin.host";
