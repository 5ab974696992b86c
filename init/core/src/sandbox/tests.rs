use super::*;
use crate::unit;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Sandbox, String> {
    let raw: RawSandbox = toml::from_str(text).map_err(|err| err.message().to_owned())?;
    raw.check("net", "net.toml").map_err(|err| err.to_string())
}

#[test]
fn an_empty_table_is_the_strictest() {
    let sandbox = parse("").unwrap();
    assert!(matches!(sandbox.user, User::Dynamic(DYNAMIC_FIRST..=DYNAMIC_LAST)));
    assert!(sandbox.capabilities.is_empty() && sandbox.sockets.is_empty());
    assert!(sandbox.read_only && sandbox.landlock && sandbox.private_tmp);
    assert!(sandbox.hide_proc && sandbox.private_dev && sandbox.private_uts && sandbox.private_ipc);
    assert_eq!((sandbox.mounts, sandbox.network), (Mounts::Private, Network::None));
}

#[test]
fn words_become_numbers() {
    let sandbox = parse(
        "user = 'root'\ngroups = ['keys']\ncapabilities = ['sys_time', 'chown', 'chown']\n\
         sockets = ['inet', 'unix']\nseccomp = ['@network']\nnetwork = 'host'",
    )
    .unwrap();
    assert_eq!(sandbox.user.id(), 0);
    assert_eq!(sandbox.groups, [70]);
    assert!(parse("devices = ['PARTLABEL=goblin-record', '/dev/vport*']").is_ok());
    let numbers: Vec<_> = sandbox.capabilities.iter().map(|kept| kept.number()).collect();
    assert_eq!(numbers, [0, 25]);
    assert_eq!(sandbox.sockets, [Family::Unix, Family::Inet]);
}

#[test]
fn mounting_for_all_hides_nothing() {
    let sandbox = parse("mounts = 'host'\nseccomp = ['@mount']").unwrap();
    assert!(!sandbox.read_only && !sandbox.landlock && !sandbox.private_dev && !sandbox.hide_proc);
    assert!(parse("mounts = 'host'\nread_only = true").unwrap_err().contains("sandbox.read_only"));
    let sandbox =
        parse("mounts = 'host'\ndevices = ['/dev/btrfs-control']\nwrite_disks = 'data'").unwrap();
    assert_eq!((sandbox.devices.len(), sandbox.write_disks), (1, Some(WriteDisks::Data)));
    let all = parse("mounts = 'host'\nwrite_disks = 'all'").unwrap();
    assert_eq!(all.write_disks, Some(WriteDisks::All));
    assert!(parse("write_disks = 'some'").unwrap_err().contains("unknown variant"));
    let both = "seccomp = ['@mount']\nlandlock = true";
    assert!(parse(both).unwrap_err().contains("sandbox.landlock"));
}

#[test]
fn refusals_name_the_key() {
    for (text, key) in [
        ("user = 'www'", "sandbox.user"),
        ("groups = ['wheel']", "sandbox.groups"),
        ("capabilities = ['CAP_KILL']", "sandbox.capabilities"),
        ("seccomp = ['@everything']", "sandbox.seccomp"),
        ("sockets = ['x25']", "sandbox.sockets"),
        ("read_paths = ['state']", "sandbox.read_paths"),
        ("write_paths = ['/state/../etc']", "sandbox.write_paths"),
        ("devices = ['/etc/passwd']", "sandbox.devices"),
        ("read_devices = ['PARTLABEL=../x']", "sandbox.read_devices"),
        ("read_disks = true\nprivate_dev = false", "sandbox.read_disks"),
        ("seccomp = ['@mount']\nprivate_dev = false\ndevices = ['/dev/sda']", "sandbox.devices"),
        ("write_disks = 'data'\nprivate_dev = false", "sandbox.write_disks"),
    ] {
        let text = parse(text).unwrap_err();
        assert!(text.starts_with("net.toml: ") && text.contains(key), "{text}");
    }
    assert!(parse("no_new_privs = false").unwrap_err().contains("unknown field"));
}

#[test]
fn a_unit_file_has_the_table() {
    let text = "description = 'd'\nkind = 'service'\nexec = ['/bin/x']\n[sandbox]\nuser = 'root'\n\
        [limits]\npids_max = 3\n";
    let unit = unit::parse("x", text).unwrap();
    assert_eq!(unit.sandbox.unwrap().user, User::Fixed(0));
    assert_eq!(unit.limits.pids_max, Some(3));
}

proptest! {
    #[test]
    fn any_value_is_answered(key in "[a-z_]{3,12}", value in "[0-9\\[\\]'a-z@/.,-]{0,24}") {
        let _ = parse(&format!("{key} = {value}\n"));
    }
}
