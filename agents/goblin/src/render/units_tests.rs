use super::*;
use goblin_core_types::UnitKind;

pub fn unit(name: &str, requires: &[&str], times: Option<(u64, Option<u64>)>) -> UnitDetail {
    UnitDetail {
        status: UnitStatus {
            name: name.into(),
            description: format!("what {name} is for"),
            phase: match times {
                None => UnitPhase::Waiting,
                Some((_, None)) => UnitPhase::Starting,
                Some((_, Some(_))) => UnitPhase::Ready,
            },
            pid: Some(7),
            restarts: 0,
            detail: String::new(),
            ready_ms: times.and_then(|(_, ready_ms)| ready_ms),
            note: String::new(),
        },
        kind: Some(UnitKind::Service),
        wanted: true,
        exec: vec!["/x".into()],
        requires: requires.iter().map(|name| (*name).to_owned()).collect(),
        milestone: vec![],
        wants: vec![],
        after: vec![],
        critical: name == "pool",
        started_ms: times.map(|(started_ms, _)| started_ms),
        watchdog_ms: None,
        last_end: String::new(),
        settings: String::new(),
    }
}

fn box_units() -> Vec<UnitDetail> {
    vec![
        unit("net", &["state"], Some((100, Some(400)))),
        unit("pool", &["state"], Some((100, Some(1000)))),
        unit("share", &["pool", "net"], Some((1000, None))),
        unit("state", &[], Some((0, Some(100)))),
        unit("late", &["share"], None),
    ]
}

#[test]
fn the_slowest_comes_first_and_bars_share_one_line() {
    let lines = blame(&blame_rows(&box_units()), Paint::default());
    assert!(lines[1].contains("starting  share"), "{}", lines[1]);
    assert!(lines[2].contains("0.900 s  pool   ····██"), "{}", lines[2]);
    assert!(lines[4].contains("0.100 s  state  ████·"), "{}", lines[4]);
    assert_eq!(lines.len(), 5, "a unit that never started is not to blame");
}

#[test]
fn a_tree_shows_each_unit_once_in_full() {
    let lines = tree(&box_units(), Paint::default());
    assert_eq!(
        lines,
        [
            "late waiting",
            "└─ share starting",
            "   ├─ pool ready at 1.000 s",
            "   │  └─ state ready at 0.100 s",
            "   └─ net ready at 0.400 s",
            "      └─ state ready at 0.100 s",
        ]
    );
}

#[test]
fn circles_and_absent_units_do_not_hang_it() {
    let units = [unit("a", &["b"], None), unit("b", &["a", "gone"], None)];
    let text = tree(&units, Paint::default()).join("\n");
    assert_eq!(text, "a waiting\n└─ b waiting\n   ├─ a waiting (above)\n   └─ gone absent");
}

#[test]
fn one_unit_is_told_whole() {
    let text = show(&box_units()[1], Paint::default()).join("\n");
    for part in
        ["pool  ready  what pool is for", "service, critical", "requires   state", "1.000 s"]
    {
        assert!(text.contains(part), "{text}");
    }
}
