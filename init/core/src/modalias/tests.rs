//! What a device may call in, and what it may not.

use super::*;
use proptest::prelude::*;

const ALIAS: &str = "# Aliases extracted from modules themselves.\n\
    alias usb:v0403p6001d*dc*dsc*dp*ic*isc*ip*in* ftdi_sio\n\
    alias usb:v*p*d*dc*dsc*dp*ic02isc06ip00in* cdc_ether\n\
    alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n\
    alias pci:v00008086d000010[0-4]?sv*sd*bc*sc*i* e1000\n\
    alias char-major-188-* built_in\n";
const DEP: &str = "kernel/drivers/usb/serial/ftdi_sio.ko: kernel/drivers/usb/serial/usbserial.ko\n\
    kernel/drivers/usb/serial/usbserial.ko:\n\
    kernel/drivers/net/usb/cdc-ether.ko: kernel/drivers/net/usb/usbnet.ko kernel/drivers/net/mii.ko\n\
    kernel/drivers/net/e1000.ko:\n";
const LIST: &str = "schema = 1\n[allow]\nftdi-sio = 'battery supplies'\ne1000 = 'older cards'\n\
    [refuse]\ncdc_ether = 'a stick may claim to be one'\n";
const FTDI: &str = "usb:v0403p6001d0400dc00dsc00dp00icFFiscFFipFFin00";

fn index() -> ModuleIndex {
    ModuleIndex::parse(ALIAS, DEP).unwrap()
}

#[test]
fn a_device_finds_its_module_once_and_what_that_needs_first() {
    let index = index();
    assert_eq!(index.wanted(FTDI), ["ftdi_sio"]);
    let files = index.files("ftdi_sio");
    assert_eq!(
        files,
        ["kernel/drivers/usb/serial/usbserial.ko", "kernel/drivers/usb/serial/ftdi_sio.ko"]
    );
    let ether = index.files("cdc_ether");
    assert_eq!(ether.first().map(String::as_str), Some("kernel/drivers/net/mii.ko"));
    let card = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
    assert_eq!(index.wanted(card), ["e1000"]);
    assert!(index.wanted("usb:v1234p5678").is_empty());
    assert!(index.wanted("char-major-188-0").is_empty(), "built into the kernel");
}

#[test]
fn only_what_the_list_allows_is_loaded() {
    let list = AllowList::parse(LIST).unwrap();
    list.check(&index()).unwrap();
    assert_eq!(list.permission("ftdi_sio"), Permission::Allowed);
    let refused = |why: &str| Permission::Refused { why: why.into() };
    assert_eq!(list.permission("cdc_ether"), refused("a stick may claim to be one"));
    assert_eq!(list.permission("usbserial"), refused("it is not on the list"));
}

#[test]
fn a_bad_list_is_refused_by_name() {
    for (text, word) in [
        ("schema = 2", "schema 2"),
        ("schema = 1\n[alow]\nx = ''", "alow"),
        ("schema = 1\n[allow]\na-b = ''\n[refuse]\na_b = ''", "a_b"),
        ("not toml", "modules.toml"),
    ] {
        let err = AllowList::parse(text).unwrap_err().to_string();
        assert!(err.contains(word), "{text}: {err}");
    }
    let list = AllowList::parse("schema = 1\n[allow]\nnone_such = 'x'").unwrap();
    let err = list.check(&index()).unwrap_err();
    assert_eq!(err, ModulesError::Unknown { module: "none_such".into() });
}

#[test]
fn a_bad_index_is_refused_with_its_line() {
    for (alias, dep, file) in [
        ("alias only\n", "", "modules.alias"),
        ("alias a b c\n", "", "modules.alias"),
        ("", "x.ko\n", "modules.dep"),
        ("", "x.txt:\n", "modules.dep"),
        ("", "../x.ko:\n", "modules.dep"),
        ("", "/x.ko:\n", "modules.dep"),
        ("", "x.ko: a/../../y.ko\n", "modules.dep"),
    ] {
        let err = ModuleIndex::parse(alias, dep).unwrap_err().to_string();
        assert!(err.contains(file) && err.contains("line 1"), "{alias}{dep}: {err}");
    }
}

#[test]
fn patterns_mean_what_the_shell_means() {
    for (pattern, text, fits) in [
        ("", "", true),
        ("*", "", true),
        ("a*", "abc", true),
        ("a*c", "abcbc", true),
        ("a*c", "abcb", false),
        ("?", "", false),
        ("a?c", "abc", true),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[!a-c]x", "dx", true),
        ("[]]x", "]x", true),
        ("[a-]", "-", true),
        ("[abc", "a", false),
        ("*a*b*c*", "xaybzc", true),
        ("a", "ab", false),
    ] {
        assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
    }
}

#[test]
fn no_pattern_takes_for_ever() {
    let pattern = "*a".repeat(200) + "b";
    assert!(!matches(&pattern, &"a".repeat(MODALIAS_BYTES_MAX)));
}

proptest! {
    #[test]
    fn any_text_returns(pattern in "[*?\\[\\]!a-c-]{0,20}", text in "[a-c]{0,20}") {
        let _ = matches(&pattern, &text);
        let _ = ModuleIndex::parse(&pattern, &text);
        let _ = AllowList::parse(&text);
    }

    /// A slow and obvious matcher agrees.
    #[test]
    fn stars_agree_with_the_definition(pattern in "[*?ab]{0,8}", text in "[ab]{0,8}") {
        fn slow(pattern: &[u8], text: &[u8]) -> bool {
            match pattern {
                [] => text.is_empty(),
                [b'*', rest @ ..] => (0..=text.len()).any(|n| slow(rest, &text[n..])),
                [b'?', rest @ ..] => !text.is_empty() && slow(rest, &text[1..]),
                [c, rest @ ..] => text.first() == Some(c) && slow(rest, &text[1..]),
            }
        }
        prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
    }
}
