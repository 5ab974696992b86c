//! Keys lead where the hints say, and no order leaves without a confirmation.

mod common;

use common::{NOW, console, press, sample, visible};
use goblin_console::model::{Clients, Code, Event, Key, Model, Page, TaskState};
use goblin_console::orders::{ORDERS, Order, Request, Side};
use goblin_console::release::Release;
use goblin_core_types::{
    ClientStatus, ConnectionStatus, InitRequest, ResetLevel, ShareCommand, UpdateCommand,
};

const TAB: Key = Key::Tab { back: false };
const BACK: Key = Key::Tab { back: true };

fn healthy() -> Model {
    console(sample("healthy"))
}

/// On the page of orders, at `order`.
fn at(order: Order) -> Model {
    let mut model = healthy();
    press(&mut model, &[Key::Number(6)]);
    let index = ORDERS.iter().position(|o| *o == order).unwrap();
    press(&mut model, &vec![Key::Down; index]);
    model
}

#[test]
fn arrows_tab_and_numbers_turn_pages() {
    let mut model = healthy();
    for (key, page) in [
        (Key::Right, Page::Storage),
        (TAB, Page::Updates),
        (BACK, Page::Storage),
        (Key::Left, Page::Overview),
        (Key::Left, Page::Clients),
        (Key::Left, Page::Actions),
        (Key::Number(7), Page::Clients),
        (Key::Right, Page::Overview),
        (Key::Number(5), Page::Logs),
        (Key::Number(9), Page::Logs),
        (Key::Number(0), Page::Logs),
        (Key::Escape, Page::Overview),
    ] {
        press(&mut model, &[key]);
        assert_eq!(model.page(), page, "after {key:?}");
    }
}

#[test]
fn only_the_check_goes_out_without_a_question() {
    for order in ORDERS {
        let mut model = at(order.clone());
        let actions = press(&mut model, &[Key::Enter]);
        assert_eq!(actions.is_empty(), order != Order::Check, "{order:?}");
        assert_eq!(model.dialog().is_some(), order != Order::Check, "{order:?}");
    }
}

#[test]
fn the_question_opens_on_the_button_that_does_nothing() {
    let mut model = at(Order::OffHere);
    assert!(press(&mut model, &[Key::Enter, Key::Enter]).is_empty());
    assert!(model.dialog().is_none());
    assert!(model.tasks().is_empty());
}

#[test]
fn escape_closes_the_question() {
    let mut model = at(Order::Upgrade);
    assert!(press(&mut model, &[Key::Enter, TAB, Key::Escape, Key::Escape]).is_empty());
    assert!(model.dialog().is_none());
}

#[test]
fn a_confirmed_order_goes_to_the_right_board() {
    let mut model = at(Order::RestartOther);
    let actions = press(&mut model, &[Key::Enter, Key::Right, Key::Enter]);
    let [action] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(action.side, Side::Other);
    assert!(matches!(action.request, Request::Init(InitRequest::Reboot { .. })));
    let mut model = at(Order::Upgrade);
    let actions = press(&mut model, &[Key::Enter, Key::Right, Key::Enter]);
    assert_eq!(
        actions[0].request,
        Request::Update(UpdateCommand::UpgradePair { to: None, from: None })
    );
}

#[test]
fn the_question_says_what_happens_and_who_loses_a_share() {
    let mut model = at(Order::Upgrade);
    press(&mut model, &[Key::Enter]);
    let text = visible(&model);
    assert!(text.contains("Upgrade both boards?"));
    assert!(text.contains("both return to what runs now"));
    assert!(text.contains("3 clients use a share now"));
    assert!(text.contains("[Leave as it is]"));
}

#[test]
fn clicks_ask_like_keys_do() {
    let mut model = healthy();
    model.step(Event::Go(Page::Actions));
    assert!(model.step(Event::Pick(5)).is_empty());
    assert_eq!(model.dialog().unwrap().order, Order::OffHere);
    // A click behind the question changes nothing.
    model.step(Event::Go(Page::Overview));
    assert!(model.step(Event::Pick(0)).is_empty());
    assert_eq!(model.page(), Page::Actions);
    assert_eq!(model.step(Event::Answer(true)).len(), 1);
    assert!(model.step(Event::Answer(true)).is_empty());
    assert!(model.step(Event::Pick(usize::MAX)).is_empty());
}

#[test]
fn the_result_of_an_order_is_shown() {
    let mut model = at(Order::Check);
    let id = press(&mut model, &[Key::Enter])[0].task;
    // The same order is not given twice at once.
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    let running = TaskState::Running { message: "Reading metadata".into(), permille: Some(420) };
    model.step(Event::Task { id, state: running });
    assert!(visible(&model).contains("Reading metadata: 42 %"));
    let failed = TaskState::Failed { message: "the signature is not the box's".into() };
    model.step(Event::Task { id, state: failed });
    assert!(visible(&model).contains("The signature is not the box's"));
    // A late word about a finished order is ignored.
    model.step(Event::Task { id, state: TaskState::Done { message: "late".into() } });
    assert!(!visible(&model).contains("late"));
}

#[test]
fn orders_for_a_board_out_of_sight_are_refused_with_the_reason() {
    let mut model = console(sample("link-lost"));
    press(&mut model, &[Key::Number(6), Key::Down]);
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    assert!(model.dialog().is_none());
    assert!(
        visible(&model)
            .contains("Upgrade both boards (not now): The storage board is not in sight.")
    );
    // This board can still be restarted.
    assert!(Order::RestartHere.refusal(&model).is_none());
}

#[test]
fn a_board_that_vanishes_while_asked_is_not_ordered() {
    let mut model = at(Order::OffOther);
    press(&mut model, &[Key::Enter, Key::Right]);
    model.step(Event::Peer(Err("no route".into())));
    model.step(Event::Tick { unix_s: NOW + 60, mono_s: 160 });
    assert!(press(&mut model, &[Key::Enter]).is_empty());
}

/// A box one of whose boards was started from its boot menu for a reset.
fn started_for_a_reset(board: usize) -> Model {
    let mut status = sample("healthy");
    status.boards[board].boot.entry = "reset_2.conf".into();
    console(status)
}

#[test]
fn a_board_started_for_a_reset_asks_and_a_refusal_leaves_everything() {
    let mut model = started_for_a_reset(0);
    let text = visible(&model);
    assert!(text.contains("Factory reset of this board?"), "{text}");
    assert!(text.contains("Nothing has been reset") && text.contains("[Leave as it is]"), "{text}");
    assert!(press(&mut model, &[Key::Enter]).is_empty());
    assert!(model.dialog().is_none() && model.page() == Page::Overview);
    // The same boot does not ask again, the next one does.
    let mut again = sample("healthy").boards.remove(0);
    again.boot.entry = "reset_2.conf".into();
    model.step(Event::Local(Ok(Box::new(again.clone()))));
    assert!(model.dialog().is_none());
    again.boot.boot_id = "another".into();
    model.step(Event::Local(Ok(Box::new(again))));
    assert!(model.dialog().is_some());
    assert!(healthy().dialog().is_none());
}

#[test]
fn a_reset_from_the_boot_menu_is_chosen_confirmed_and_of_that_board_alone() {
    for (board, side) in [(0, Side::Here), (1, Side::Other)] {
        let mut model = started_for_a_reset(board);
        assert!(press(&mut model, &[Key::Right, Key::Enter]).is_empty());
        assert_eq!((model.page(), model.choices().len()), (Page::Actions, 3));
        let actions = press(&mut model, &[Key::Down, Key::Enter]);
        assert!(actions.is_empty());
        assert!(visible(&model).contains("It cannot be undone"));
        assert!(press(&mut model, &[Key::Enter]).is_empty(), "it opens on the other button");
        let actions = press(&mut model, &[Key::Enter, Key::Right, Key::Enter]);
        let [action] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(action.side, side);
        let why = "chosen in the boot menu".to_owned();
        let wanted = UpdateCommand::FactoryReset { level: ResetLevel::System, why };
        assert_eq!(action.request, Request::Update(wanted));
        // The page has its other orders when it is come back to.
        press(&mut model, &[Key::Escape, Key::Number(6)]);
        assert_eq!(model.choices(), ORDERS);
    }
}

#[test]
fn one_board_alone_can_be_reset_when_the_other_is_away() {
    let mut status = sample("link-lost");
    status.boards[0].boot.entry = "reset_2.conf".into();
    let mut model = console(status);
    press(&mut model, &[Key::Right, Key::Enter]);
    assert_eq!(press(&mut model, &[Key::Enter, Key::Right, Key::Enter]).len(), 1);
    let other = Order::ResetOne(Side::Other, ResetLevel::All);
    assert!(other.refusal(&model).is_some());
}

#[test]
fn one_missed_answer_is_not_an_outage() {
    let mut model = healthy();
    model.step(Event::Tick { unix_s: NOW + 1, mono_s: 101 });
    model.step(Event::Local(Err("busy".into())));
    model.step(Event::Peer(Err("busy".into())));
    assert!(visible(&model).contains("All well"));
    model.step(Event::Tick { unix_s: NOW + 30, mono_s: 130 });
    let text = visible(&model);
    assert!(text.contains("Control service not answering") && text.contains("Busy"), "{text}");
    // What was known stays on the screen.
    assert!(text.contains("Storage board"));
}

#[test]
fn a_service_that_never_answers_is_not_shown_as_current() {
    let mut model = healthy();
    // No request has failed: they are taken and not answered.
    model.step(Event::Tick { unix_s: NOW + 15, mono_s: 115 });
    assert!(visible(&model).contains("All well"));
    model.step(Event::Tick { unix_s: NOW + 25, mono_s: 125 });
    let text = visible(&model);
    assert!(text.contains("It takes requests and does not answer them"), "{text}");
    assert!(!text.contains("All well"));
}

#[test]
fn orders_under_way_keep_their_place() {
    let mut model = healthy();
    let [first] = press(&mut model, &[Key::Number(6), Key::Enter]).try_into().unwrap();
    for _ in 0..10 {
        let order = [Key::Down, Key::Down, Key::Down, Key::Enter, Key::Right, Key::Enter];
        for action in press(&mut model, &order) {
            let state = TaskState::Done { message: "told".into() };
            model.step(Event::Task { id: action.task, state });
        }
        press(&mut model, &[Key::Up, Key::Up, Key::Up]);
    }
    assert_eq!(model.tasks().len(), goblin_console::model::TASKS_MAX);
    assert!(model.tasks().iter().any(|task| task.id == first.task && task.running()));
}

#[test]
fn scrolling_stays_within_the_page() {
    let mut model = healthy();
    press(&mut model, &[Key::Down]);
    assert_eq!(model.scroll(), 0.0);
    model.step(Event::Range(100.0));
    press(&mut model, &[Key::Down, Key::Down, Key::PageDown]);
    assert_eq!(model.scroll(), 100.0);
    model.step(Event::Range(30.0));
    assert_eq!(model.scroll(), 30.0);
    model.step(Event::Scroll(f32::NAN));
    model.step(Event::Range(f32::INFINITY));
    assert_eq!(model.scroll(), 0.0);
}

#[test]
fn severity_of_the_log_is_chosen_with_enter() {
    let mut model = healthy();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/logs.json");
    let lines = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    model.step(Event::Logs(Ok(lines)));
    press(&mut model, &[Key::Number(5)]);
    assert!(visible(&model).contains("info health: healthy"));
    press(&mut model, &[Key::Enter, Key::Enter]);
    let text = visible(&model);
    assert!(
        !text.contains("info health: healthy") && text.contains("connection refused"),
        "{text}"
    );
}

#[test]
fn before_the_first_answer_there_is_a_page() {
    let mut model = Model::new(Release::default());
    model.step(Event::Tick { unix_s: 5, mono_s: 0 });
    assert!(visible(&model).contains("Waiting for the first status"));
    model.step(Event::Local(Err("its socket does not answer".into())));
    // A service that is still starting is no failure.
    assert!(!visible(&model).contains("No answer"));
    model.step(Event::Tick { unix_s: 15, mono_s: 10 });
    let text = visible(&model);
    assert!(
        text.contains("Control service not answering") && text.contains("Clock not set"),
        "{text}"
    );
}

/// The file server's word about one enrolled PC and one connection.
fn clients(codes_waiting: u32) -> Event {
    let enrolled = ClientStatus {
        name: "laptop".into(),
        user: "anna".into(),
        key: "k".into(),
        added_unix_s: NOW - 86_400,
        connected_from: vec!["10.0.2.2:40000".into()],
        shares: Vec::new(),
    };
    let connection = ConnectionStatus {
        client: "laptop".into(),
        user: "anna".into(),
        from: "10.0.2.2:40000".into(),
        since_unix_s: NOW - 60,
        operations: 4242,
        read_bytes: 1 << 20,
        written_bytes: 0,
    };
    let (enrolled, connections) = (vec![enrolled], vec![connection]);
    Event::Clients(Ok(Box::new(Clients { enrolled, connections, codes_waiting })))
}

/// On the page of clients, where a code was asked for and made.
fn with_code() -> Model {
    let mut model = healthy();
    press(&mut model, &[Key::Number(7)]);
    model.step(clients(0));
    let actions = press(&mut model, &[Key::Enter, Key::Right, Key::Enter]);
    let [action] = actions.as_slice() else { panic!("{actions:?}") };
    let add = ShareCommand::AddClient { name: None, user: None };
    assert_eq!((action.side, &action.request), (Side::Other, &Request::Share(add)));
    let (code, address) = ("4-otter-lamp".to_owned(), Some("192.168.1.7".to_owned()));
    let state = TaskState::Code(Code { code, life_s: 600, address });
    model.step(Event::Task { id: action.task, state });
    model
}

#[test]
fn a_code_stays_until_it_is_used() {
    let mut model = with_code();
    assert!(visible(&model).contains("sudo goblin login 192.168.1.7 4-otter-lamp"));
    // An answer from before the code was made says nothing about it.
    model.step(clients(0));
    assert!(visible(&model).contains("4-otter-lamp"));
    model.step(clients(1));
    assert!(visible(&model).contains("4-otter-lamp"));
    model.step(clients(0));
    assert!(!visible(&model).contains("4-otter-lamp"));
}

#[test]
fn a_code_goes_when_its_time_is_over() {
    let mut model = with_code();
    model.step(Event::Tick { unix_s: NOW, mono_s: 699 });
    assert!(visible(&model).contains("4-otter-lamp"));
    model.step(Event::Tick { unix_s: NOW, mono_s: 700 });
    assert!(!visible(&model).contains("4-otter-lamp"));
}

#[test]
fn a_pc_is_revoked_by_name_and_only_when_confirmed() {
    let mut model = healthy();
    press(&mut model, &[Key::Number(7)]);
    model.step(clients(0));
    let text = visible(&model);
    for words in ["Revoke laptop: User anna, connected from 10.0.2.2:40000", "4242", "1 connection"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(press(&mut model, &[Key::Down, Key::Enter, Key::Enter]).is_empty());
    let actions = press(&mut model, &[Key::Enter, Key::Right, Key::Enter]);
    let revoke = ShareCommand::RevokeClient { name: "laptop".into() };
    assert_eq!(actions[0].request, Request::Share(revoke));
}

#[test]
fn a_reset_says_what_goes_and_stays_and_is_of_both_boards() {
    for level in ResetLevel::ALL {
        let mut model = at(Order::Reset(level));
        press(&mut model, &[Key::Enter]);
        let question = Order::Reset(level).question(&model).unwrap();
        let text = question.sentences.join(" ");
        for phrase in level.goes().iter().chain(level.stays()) {
            assert!(text.contains(phrase), "{phrase}");
        }
        let actions = press(&mut model, &[TAB, Key::Enter]);
        let [action] = actions.as_slice() else { panic!("{actions:?}") };
        let why = "asked for at the console".to_owned();
        let command = UpdateCommand::FactoryResetPair { level, why };
        assert_eq!((action.side, &action.request), (Side::Here, &Request::Update(command)));
    }
    // Half a box is not reset.
    let model = console(sample("link-lost"));
    assert!(Order::Reset(ResetLevel::All).refusal(&model).is_some());
}
