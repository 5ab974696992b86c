use super::*;
use proptest::prelude::*;

const COMPUTE: &str = include_str!("../data/compute.toml");
const STORAGE: &str = include_str!("../data/storage.toml");

/// The storage example with one piece of text exchanged.
fn with(old: &str, new: &str) -> String {
    assert!(STORAGE.contains(old), "the example holds no {old}");
    STORAGE.replacen(old, new, 1)
}

/// Field and problem of the refusal.
fn refused(text: &str) -> (String, Problem) {
    match parse(text) {
        Err(ProvisionError::Field { field, problem, .. }) => (field, problem),
        other => panic!("expected a refused field, got {other:?}"),
    }
}

#[test]
fn examples_are_accepted_and_fit_each_other() {
    let compute = parse(COMPUTE).unwrap();
    let storage = parse(STORAGE).unwrap();
    assert_eq!(compute.role.peer(), storage.role);
    assert_eq!(compute.the_box, storage.the_box);
    assert_eq!(storage.disk.data.len(), 2);
    assert!(!compute.network.allow_plain_9p && !compute.debug.host_channel);
}

#[test]
fn padding_to_the_reserved_room_changes_nothing() {
    let mut padded = STORAGE.as_bytes().to_vec();
    padded.resize(PROVISION_BYTES_MAX, b'\n');
    assert_eq!(parse_bytes(&padded).unwrap(), parse(STORAGE).unwrap());
    padded.push(b'\n');
    assert_eq!(parse_bytes(&padded), Err(ProvisionError::TooLong { got: 65_537 }));
}

#[test]
fn blank_zeroed_and_scrubbed_rooms_are_missing_files() {
    for room in ["", "\n\n \r\n\n", "# Applied.\n\n\n", "\0\0\0\0"] {
        assert_eq!(parse_bytes(room.as_bytes()), Err(ProvisionError::Missing), "{room:?}");
    }
}

#[test]
fn torn_files_name_the_line_where_damage_begins() {
    let mut torn = STORAGE.as_bytes().to_vec();
    let cut = STORAGE.find("[keys]").unwrap();
    torn[cut..].fill(0);
    let line = STORAGE[..cut].matches('\n').count() + 1;
    assert_eq!(parse_bytes(&torn), Err(ProvisionError::Torn { line }));
    torn[cut..].fill(0xff);
    assert_eq!(parse_bytes(&torn), Err(ProvisionError::Torn { line }));
}

#[test]
fn a_file_cut_at_any_byte_is_refused_or_whole() {
    let whole = parse(STORAGE).unwrap();
    for cut in 0..STORAGE.len() {
        if let Ok(part) = parse(&STORAGE[..cut]) {
            // Only what follows the last complete table may be gone: TOML has no end mark.
            assert_eq!(part.keys, whole.keys);
        }
    }
}

#[test]
fn a_sealed_file_cut_at_any_byte_is_never_taken() {
    let room = seal(STORAGE).unwrap();
    assert_eq!(room.len(), PROVISION_BYTES_MAX);
    assert_eq!(parse_bytes(&room).unwrap(), parse(STORAGE).unwrap());
    let end = room.iter().rposition(|&byte| byte != b'\n').unwrap();
    // What is shorter than the mark holds no settings.
    for cut in 0..=end {
        let mut torn = room.clone();
        torn[cut..].fill(b'\n');
        let want = if cut < 9 { ProvisionError::Missing } else { ProvisionError::SealBroken };
        assert_eq!(parse_bytes(&torn), Err(want), "cut at {cut}");
    }
}

#[test]
fn sealing_twice_changes_nothing() {
    let room = seal(STORAGE).unwrap();
    let again = seal(std::str::from_utf8(&room).unwrap()).unwrap();
    assert_eq!(parse_bytes(&again), parse_bytes(&room));
    assert!(seal("schema = 7").is_err());
}

#[test]
fn an_unknown_key_is_named_with_its_place() {
    let err = parse(&with("[network]", "[network]\nallow_plain = true")).unwrap_err();
    let ProvisionError::Syntax { place: Some(place), message } = &err else { panic!("{err:?}") };
    let line = STORAGE[..STORAGE.find("[network]").unwrap()].matches('\n').count() + 2;
    assert_eq!(place.line, line);
    assert!(message.contains("allow_plain") && message.contains("allow_plain_9p"), "{message}");
}

#[test]
fn a_refused_value_is_named_with_its_place() {
    let err = parse(&with("\"2001:db8::123\"", "\"time server\"")).unwrap_err();
    let line = STORAGE[..STORAGE.find("ntp = ").unwrap()].matches('\n').count() + 1;
    let text = err.to_string();
    assert!(text.starts_with(&format!("line {line}, column ")), "{text}");
    assert!(text.contains("`network.ntp[2]` is neither"), "{text}");
}

#[test]
fn errors_never_show_a_key() {
    let secret = "2".repeat(64);
    for broken in [
        with(&secret, &format!("{secret}0")),
        with(&format!("\"{secret}\""), &format!("\"{secret}")),
        with(&format!("\"{secret}\""), &secret),
        with("d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737", &secret),
    ] {
        let err = parse(&broken).unwrap_err();
        assert!(!format!("{err} {err:?}").contains(&secret[..32]), "{err}");
    }
}

#[test]
fn every_rule_names_its_field() {
    let long_list = format!("ntp = [{}]", "\"a.example\", ".repeat(9));
    let cases: Vec<(String, &str, Problem)> = vec![
        (with("schema = 1", "schema = 2"), "schema", Problem::Schema { got: 2 }),
        (with("attic-disks", "Attic"), "host", Problem::HostName),
        (with("attic-disks", "attic-"), "host", Problem::HostName),
        (with("Europe/Berlin", "Europe/Atlantis"), "time_zone", Problem::TimeZone),
        (with("Europe/Berlin", "europe/berlin"), "time_zone", Problem::TimeZone),
        (with("\"Attic\"", "\" Attic\""), "box.name", Problem::BoxName),
        (with("\"family\"", "\"-family\""), "share[0].name", Problem::ShareName),
        (with("\"family\"", "\"../etc\""), "share[0].name", Problem::ShareName),
        (with("\"music\"", "\"family\""), "share[1].name", Problem::Twice { first: 0 }),
        (with("https://", "ftp://"), "update.url", Problem::Url),
        (with("https://", "https://me:pw@"), "update.url", Problem::Url),
        (with("goblinux/\"", "goblinux/?a\""), "update.url", Problem::Url),
        (with("channel =", "mirrors = [\"m\"]\nchannel ="), "update.mirrors[0]", Problem::Url),
        (with("channel =", "proxy = \"https://p\"\nchannel ="), "update.proxy", Problem::Proxy),
        (with("\"stable\"", "\"Stable!\""), "update.channel", Problem::Channel),
        (with("'''\n{", "'''\n["), "update.root", Problem::RootNotJson),
        (with("\"root\", ", "\"timestamp\", "), "update.root", Problem::RootNotRoot),
        (
            with("[network]", "[network]\nlink = \"AA:bb:cc:dd:ee:ff\""),
            "network.link",
            Problem::HardwareAddress,
        ),
        (
            with("[network]", "[network]\nlan = \"01:bb:cc:dd:ee:ff\""),
            "network.lan",
            Problem::HardwareAddress,
        ),
        (
            with(
                "[network]",
                "[network]\nlink = \"52:54:00:00:00:01\"\nlan = \"52:54:00:00:00:01\"",
            ),
            "network.lan",
            Problem::SameCard,
        ),
        (
            with("ntp = [\"ntp.example.org\", \"192.0.2.7\", \"2001:db8::123\"]", &long_list),
            "network.ntp",
            Problem::TooMany { got: 9, max: NTP_SERVERS_MAX },
        ),
        (with("WD-WCC4E0000002", "WD-WCC4E0000001"), "disk.data[1]", Problem::Twice { first: 0 }),
        (with("WD-WCC4E0000002", ""), "disk.data[1]", Problem::Serial),
        (
            with("\"WD-WCC4E0000002\"", "\"b\", \"c\""),
            "disk.data",
            Problem::TooMany { got: 3, max: 2 },
        ),
        (with("\"storage\"", "\"compute\""), "disk.data", Problem::DisksWithoutStorage),
    ];
    for (text, field, problem) in cases {
        assert_eq!(refused(&text), (field.to_owned(), problem));
    }
}

#[test]
fn keys_in_the_wrong_place_are_told_apart() {
    let peer = "d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737";
    let own = "a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0";
    let weak = format!("01{}", "00".repeat(31));
    for (key, problem) in [
        ("22".repeat(32), Problem::PrivateKeyAsPeer),
        (own.to_owned(), Problem::OwnKeyAsPeer),
        (weak, Problem::PublicKey),
    ] {
        assert_eq!(refused(&with(peer, &key)), ("keys.peer_public".to_owned(), problem));
    }
}

#[test]
fn thirty_three_shares_are_too_many() {
    let extra: String = (0..31).map(|n| format!("[[share]]\nname = \"s{n}\"\n")).collect();
    let (field, problem) = refused(&format!("{STORAGE}\n{extra}"));
    assert_eq!((field.as_str(), problem), ("share", Problem::TooMany { got: 33, max: SHARES_MAX }));
}

#[test]
fn addresses_of_test_servers_are_accepted() {
    for url in ["http://10.0.2.2:8000", "http://[fe80::1]:8000/r", "https://h/a%20b/"] {
        parse(&with("https://releases.example.org/goblinux/", url)).unwrap();
    }
    for url in [
        "http://",
        "http://:80/",
        "http://[fe80::1",
        "http://h:0/",
        "http://h:99999/",
        "http://1.2.3/",
    ] {
        assert_eq!(
            refused(&with("https://releases.example.org/goblinux/", url)).1,
            Problem::Url,
            "{url}"
        );
    }
}

#[test]
fn a_written_file_reads_back() {
    let storage = parse(STORAGE).unwrap();
    assert_eq!(parse(&toml::to_string(&storage).unwrap()).unwrap(), storage);
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_damage_to_an_example_is_answered(at in 0usize..STORAGE.len(), byte in any::<u8>(), len in 0usize..40) {
        let mut bytes = STORAGE.as_bytes().to_vec();
        let end = (at + len).min(bytes.len());
        bytes[at..end].fill(byte);
        if let Err(err) = parse_bytes(&bytes) {
            prop_assert!(!err.to_string().contains('\n'));
        }
    }
}

#[test]
fn no_sentence_repeats_a_key_that_stands_in_the_wrong_place() {
    let key = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let text = format!("role = \"{key}\"\n");
    for text in [
        text.clone(),
        format!("{key} = 1\n"),
        format!("schema = \"{key}\"\n"),
        format!("schema = 1\nhost = [\"{key}\"]\n"),
        // The tail of a line that was cut.
        format!("{}\n", &key[44..]),
        format!("{}schema = 1\n", &key[20..40]),
    ] {
        let said = format!("{0} {0:?}", parse(&text).unwrap_err());
        let leaks = (0..key.len() - 12).any(|at| said.contains(&key[at..at + 12]));
        assert!(!leaks, "{said}");
    }
}

#[test]
fn releases_may_have_mirrors_and_a_proxy_and_need_neither() {
    let update = parse(STORAGE).unwrap().update.unwrap();
    assert_eq!((update.mirrors.len(), update.proxy), (0, None));
    let more = "mirrors = [\"http://10.0.0.2/r\"]\nproxy = \"http://10.0.0.1:3128\"\nchannel =";
    let update = parse(&with("channel =", more)).unwrap().update.unwrap();
    assert_eq!(update.mirrors, ["http://10.0.0.2/r"]);
    assert_eq!(update.proxy.as_deref(), Some("http://10.0.0.1:3128"));
}
