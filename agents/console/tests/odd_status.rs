//! Any status draws: odd names, huge numbers, long lists, strange sizes of the screen.

mod common;

use common::{console, press, sample};
use goblin_console::content;
use goblin_console::model::{Event, Key, PAGES};
use goblin_console::paint::Artist;
use goblin_console::text;
use goblin_core_types::{
    BoardStatus, BoxStatus, Check, CheckState, LogLevel, LogLine, Role, ShareStatus, SlotState,
    SlotStatus, UnitPhase, UnitStatus, UpdatePhase, Version,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z]{0,300}",
        Just("\u{202e}\u{0}\u{7f}\n\r\t".to_owned()),
        Just("🙂👩‍👩‍👧‍👦é̷̛́中文 עברית".repeat(40)),
    ]
}

fn any_check() -> impl Strategy<Value = Check> {
    let state = prop_oneof![
        Just(CheckState::Waiting),
        Just(CheckState::Ok),
        Just(CheckState::Warn),
        Just(CheckState::Fail)
    ];
    (any_text(), state, any_text()).prop_map(|(name, state, detail)| Check { name, state, detail })
}

fn any_share() -> impl Strategy<Value = ShareStatus> {
    (any_text(), any::<bool>(), any::<u32>(), any::<u64>(), proptest::option::of(any_text()))
        .prop_map(|(name, served, clients, bytes, problem)| ShareStatus {
            name,
            served,
            clients,
            read_bytes: bytes,
            written_bytes: u64::MAX,
            problem,
        })
}

fn any_slot() -> impl Strategy<Value = SlotStatus> {
    let state = prop_oneof![
        Just(SlotState::Good),
        any::<u32>().prop_map(|left| SlotState::Trial { left, done: left }),
        any::<u32>().prop_map(|done| SlotState::Bad { done }),
    ];
    (any::<(u32, u32, u32)>(), state, any::<bool>()).prop_map(|((a, b, c), state, running)| {
        SlotStatus {
            version: Version::new(a, b, c),
            file: String::new(),
            state,
            running,
            size_bytes: 0,
        }
    })
}

/// A sample with whatever a board may say in its place.
fn any_board() -> impl Strategy<Value = BoardStatus> {
    let roles = prop_oneof![Just(None), Just(Some(Role::Compute)), Just(Some(Role::Storage))];
    let lists = (vec(any_check(), 0..20), vec(any_share(), 0..30), vec(any_slot(), 0..8));
    let numbers = any::<(u64, u64, u64, u64)>();
    let texts = vec(any_text(), 8);
    (roles, lists, numbers, texts, 0usize..2).prop_map(|(role, lists, numbers, texts, which)| {
        let mut board = sample("overlong").boards.swap_remove(which);
        let text = |n: usize| texts[n % texts.len()].clone();
        board.role = role;
        board.host = text(0);
        (board.health.checks, board.shares, board.slots) = lists;
        board.time.zone = text(1);
        board.boot.uptime_s = numbers.0;
        board.boot.notes = text(2);
        board.provision.detail = text(3);
        board.network.lan_addresses = vec![text(4), text(5)];
        board.link.silent_ms = Some(numbers.1);
        board.link.interface = Some(text(6));
        board.update.phase = UpdatePhase::Fetching;
        (board.update.done_bytes, board.update.total_bytes) = (numbers.2, numbers.3);
        board.update.pair = Some(text(7));
        if let Some(last) = board.update.last.as_mut() {
            last.at_unix_s = numbers.0;
            last.last_lines = texts.clone();
            last.reason = text(8);
        }
        let reports = board.update.last.iter().cycle().take(20).cloned();
        board.boot.reports = reports.collect();
        for (report, at) in board.boot.reports.iter_mut().zip([numbers.2, 0, numbers.3, u64::MAX]) {
            report.at_unix_s = at;
        }
        board.units = (0..100)
            .map(|n| UnitStatus {
                name: text(n),
                description: text(n),
                phase: UnitPhase::Failed,
                pid: None,
                restarts: u32::MAX,
                detail: text(n),
                ready_ms: Some(numbers.1),
                note: String::new(),
            })
            .collect();
        board
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_status_draws_on_any_screen(
        boards in vec(any_board(), 0..3),
        absent in vec(any_text(), 0..2),
        line in any_text(),
        now in any::<u64>(),
        width in 320usize..1000,
        height in 320usize..700,
    ) {
        let mut model = console(BoxStatus { boards, absent, ..BoxStatus::default() });
        model.step(Event::Tick { unix_s: now, mono_s: now });
        let log = LogLine { seq: 0, at_ms: now, unit: line.clone(), level: LogLevel::Error, text: line };
        model.step(Event::Logs(Ok(vec![log; 30])));
        let mut artist = Artist::new(width, height);
        for number in (1u8..).take(PAGES.len()) {
            press(&mut model, &[Key::Number(number), Key::PageDown, Key::Down, Key::Enter]);
            let screen = content::screen(&model);
            for event in artist.draw(&screen, Vec::new(), 0.0) {
                model.step(event);
            }
            prop_assert!(!text::lines(&screen).is_empty());
            press(&mut model, &[Key::Escape]);
        }
        prop_assert_eq!(artist.pixels().len(), width * height);
    }
}

#[test]
fn the_same_screen_gives_the_same_pixels() {
    let model = console(sample("healthy"));
    let screen = content::screen(&model);
    let mut pictures = [Artist::new(640, 400), Artist::new(640, 400)];
    for artist in &mut pictures {
        artist.draw(&screen, Vec::new(), 0.0);
    }
    let [first, mut second] = pictures;
    assert!(first.pixels() == second.pixels());
    second.draw(&screen, Vec::new(), 99.0);
    assert!(first.pixels() == second.pixels());
}

#[test]
fn a_click_on_a_tab_turns_the_page() {
    let mut model = console(sample("healthy"));
    let mut artist = Artist::new(1280, 800);
    let pos = artist.points(400.0, 108.0);
    let button = |pressed| egui::Event::PointerButton {
        pos,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: egui::Modifiers::NONE,
    };
    let steps = [
        vec![],
        vec![egui::Event::PointerMoved(pos)],
        vec![button(true)],
        vec![button(false)],
        vec![],
    ];
    for (number, pointer) in (0u32..).zip(steps) {
        for event in artist.draw(&content::screen(&model), pointer, f64::from(number) / 20.0) {
            model.step(event);
        }
    }
    assert_eq!(model.page(), goblin_console::model::Page::Updates);
}
