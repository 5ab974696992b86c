//! Where things live on a running board. One home for every path that two programs must agree on.

/// Run-time state of goblinux, on tmpfs; gone with a reboot.
pub const RUN: &str = "/run/goblin";
/// One JSON file per agent, `<agent>.json`: its part of the board's status, replaced by rename.
pub const RUN_STATE: &str = "/run/goblin/state";
/// PID 1's control socket: one [`crate::InitRequest`] line in, [`crate::InitReply`] lines out.
pub const INIT_SOCKET: &str = "/run/goblin/init.sock";
/// The updater's socket: one [`crate::UpdateCommand`] line in, [`crate::UpdateReply`] lines out.
pub const UPDATE_SOCKET: &str = "/run/goblin/update.sock";
/// The control tree, served as 9P2000.L on a unix socket.
pub const CONTROL_SOCKET: &str = "/run/goblin/control.9p";
/// The role's word and a newline, written by provisioning; absent while a board has none.
pub const ROLE_FILE: &str = "/run/goblin/role";
/// Resolver configuration written by the network agent; `/etc/resolv.conf` points here.
pub const RESOLV_CONF: &str = "/run/goblin/resolv.conf";
/// The EFI system partition, mounted read-only except while the updater writes.
pub const ESP: &str = "/run/goblin/esp";
/// Directory of the UKIs inside the ESP.
pub const ESP_LINUX: &str = "EFI/Linux";
/// The provisioning file inside the ESP, as `flash` wrote it.
pub const ESP_PROVISION: &str = "provision.toml";
/// The STATE partition: configuration, keys, logs, downloaded blobs.
pub const STATE: &str = "/state";
/// The provisioning file after it was applied; holds private keys, mode 0600.
pub const PROVISION: &str = "/state/config/provision.toml";
/// What applying the provisioning file did, a [`crate::ProvisionStatus`].
pub const PROVISION_RESULT: &str = "/state/config/provision-result.json";
/// The updater's store: verified metadata and blobs by digest.
pub const UPDATE_STORE: &str = "/state/update";
/// Mount point of the storage board's pool.
pub const POOL: &str = "/pool";
/// One directory per share inside the pool.
pub const POOL_SHARES: &str = "/pool/shares";
/// Where the compute board mounts the storage board's shares, one directory per share.
pub const SHARES: &str = "/shares";
/// The release that is running, a JSON file inside the base image: `{"version": .., "notes": ..}`.
pub const RELEASE: &str = "/usr/lib/goblin/release.json";
/// Units of PID 1, one TOML file each, inside the base image.
pub const UNITS: &str = "/usr/lib/goblin/units";

/// GPT name of the EFI system partition.
pub const PART_ESP: &str = "goblin-esp";
/// GPT name of the boot record's partition.
pub const PART_RECORD: &str = "goblin-record";
/// GPT name of the STATE partition.
pub const PART_STATE: &str = "goblin-state";

/// TCP port of the shares, 9P2000.L (registered for 9P).
pub const PORT_SHARES: u16 = 564;
/// TCP port of the storage board's control tree, on the inter-board link only.
pub const PORT_CONTROL: u16 = 5641;
/// UDP port of the signed hello between boards, on every wired interface.
pub const PORT_HELLO: u16 = 5642;
/// Name of the virtio-serial port through which a test or `cargo xtask run` reaches the compute board.
pub const HOST_CHANNEL: &str = "goblin.host";
