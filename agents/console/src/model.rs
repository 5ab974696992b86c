//! The console's state: what the boards said, and where the person is. Events in, orders out.

use crate::orders::{Action, ORDERS, Order, Side};
use crate::release::Release;
use crate::words;
use goblin_core_types::{
    BoardStatus, BoxStatus, ClientStatus, ConnectionStatus, LogLevel, LogLine, ResetLevel, Role,
    ShareReply, reset_entry_version,
};

/// Log lines kept for the page.
pub const LOG_LINES_MAX: usize = 400;
/// Finished and running orders kept for the page.
pub const TASKS_MAX: usize = 5;
/// Enrolled PCs that the page lists; `goblin client list` shows all.
pub const CLIENTS_MAX: usize = 32;
/// Seconds without an answer after which a board counts as silent: one lost request is no outage.
const GRACE_S: u64 = 4;
/// Seconds after which it counts as silent even though no request has failed: it takes the request and
/// never ends its answer. Above the longest wait of the threads for one answer.
const STUCK_S: u64 = 20;
/// Points that one press of an arrow key scrolls.
const SCROLL_STEP: f32 = 64.0;
/// Points that one press of Page Up or Page Down scrolls.
const SCROLL_PAGE: f32 = 480.0;

/// The pages, in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Page {
    /// Both boards at a glance.
    #[default]
    Overview,
    /// Pool, disks, shares.
    Storage,
    /// Releases on both boards.
    Updates,
    /// Interfaces, link, clock.
    Network,
    /// Newest log lines of this board.
    Logs,
    /// Orders.
    Actions,
    /// Enrolled PCs, who is connected, codes for new ones.
    Clients,
}

/// Every page; the first has key 1.
pub const PAGES: [Page; 7] = [
    Page::Overview,
    Page::Storage,
    Page::Updates,
    Page::Network,
    Page::Logs,
    Page::Actions,
    Page::Clients,
];

impl Page {
    /// Title on the tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Storage => "Storage",
            Self::Updates => "Updates",
            Self::Network => "Network",
            Self::Logs => "Logs",
            Self::Actions => "Actions",
            Self::Clients => "Clients",
        }
    }

    fn index(self) -> usize {
        PAGES.iter().position(|p| *p == self).unwrap_or(0)
    }

    fn step(self, forward: bool) -> Self {
        let count = PAGES.len();
        let by = if forward { 1 } else { count.saturating_sub(1) };
        let next = self.index().saturating_add(by).checked_rem(count).unwrap_or(0);
        PAGES.get(next).copied().unwrap_or_default()
    }
}

/// Keys the console knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Tab, or with Shift the other way.
    Tab {
        /// Shift was held.
        back: bool,
    },
    /// A screenful up.
    PageUp,
    /// A screenful down.
    PageDown,
    /// To the top.
    Home,
    /// To the end.
    End,
    /// Enter or Space.
    Enter,
    /// Escape.
    Escape,
    /// A digit or function key, 1 to 12.
    Number(u8),
}

/// Progress of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// Under way.
    Running {
        /// What it is doing.
        message: String,
        /// Parts of a thousand, where it is counted.
        permille: Option<u16>,
    },
    /// Carried out.
    Done {
        /// One sentence.
        message: String,
    },
    /// A code was made.
    Code(Code),
    /// Not carried out.
    Failed {
        /// What went wrong and what to do.
        message: String,
    },
}

/// What a person types on a PC to enrol it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The code.
    pub code: String,
    /// Seconds it is good for, from when it was made.
    pub life_s: u64,
    /// Address of the file server, when one is known.
    pub address: Option<String>,
}

/// A [`Code`] on the screen.
#[derive(Debug, Clone)]
struct Shown {
    code: Code,
    ends_mono_s: u64,
    /// The file server has counted it among those that wait: once it no longer does, it was used.
    counted: bool,
}

/// Who may come in, and who is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clients {
    /// Enrolled PCs, by name.
    pub enrolled: Vec<ClientStatus>,
    /// Live connections, the boards' own among them.
    pub connections: Vec<ConnectionStatus>,
    /// Codes that wait to be used.
    pub codes_waiting: u32,
}

/// An order that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// What was ordered.
    pub order: Order,
    /// When, seconds since 1970.
    pub at_unix_s: u64,
    /// How it stands.
    pub state: TaskState,
}

impl Task {
    /// True until it has ended.
    pub fn running(&self) -> bool {
        matches!(self.state, TaskState::Running { .. })
    }
}

impl Clients {
    /// Those of a listing; `None` for any other reply.
    pub fn of(reply: ShareReply) -> Option<Self> {
        let ShareReply::Clients { clients, connections, codes_waiting } = reply else {
            return None;
        };
        Some(Self { enrolled: clients, connections, codes_waiting })
    }
}

/// What happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time went on.
    Tick {
        /// The wall clock, seconds since 1970.
        unix_s: u64,
        /// Seconds of a clock that never jumps.
        mono_s: u64,
    },
    /// This board's status, or why the control service gave none.
    Local(Result<Box<BoardStatus>, String>),
    /// The other board's status, or why there is none.
    Peer(Result<Box<BoardStatus>, String>),
    /// Newest log lines of this board, oldest first, or why there are none.
    Logs(Result<Vec<LogLine>, String>),
    /// Who is enrolled and connected, or why that is not known.
    Clients(Result<Box<Clients>, String>),
    /// How an order stands.
    Task {
        /// Its number.
        id: u64,
        /// New state.
        state: TaskState,
    },
    /// A key went down.
    Key(Key),
    /// A tab was clicked.
    Go(Page),
    /// An entry of the page's list of orders was clicked.
    Pick(usize),
    /// A button of the dialog was clicked: `true` carries the order out.
    Answer(bool),
    /// The wheel turned: points to scroll, positive towards the end.
    Scroll(f32),
    /// The view measured the page: points by which it is longer than the screen.
    Range(f32),
}

/// A board and when it was last heard.
#[derive(Debug, Clone, Default)]
struct Seen {
    status: Option<Box<BoardStatus>>,
    /// When the last answer came, or `None` before the first one.
    at_mono_s: Option<u64>,
    /// Why the newest request failed; `None` when it was answered.
    silent: Option<String>,
}

impl Seen {
    fn take(&mut self, answer: Result<Box<BoardStatus>, String>, mono_s: u64) {
        match answer {
            Ok(status) => {
                self.status = Some(status);
                self.at_mono_s = Some(mono_s);
                self.silent = None;
            }
            Err(why) => self.silent = Some(words::clean(&why)),
        }
    }

    /// Why the board is silent, once it has been for [`GRACE_S`].
    fn silent(&self, mono_s: u64, started_mono_s: u64) -> Option<&str> {
        let age_s = mono_s.saturating_sub(self.at_mono_s.unwrap_or(started_mono_s));
        let stuck = (age_s >= STUCK_S).then_some("it takes requests and does not answer them");
        self.silent.as_deref().filter(|_| age_s >= GRACE_S).or(stuck)
    }
}

/// The question on the screen and the button that Enter presses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// What is asked about.
    pub order: Order,
    /// True when the button that carries it out has the focus; a dialog opens with the other one.
    pub yes: bool,
}

/// Lowest severity that the log page shows.
const LEVELS: [LogLevel; 4] = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];

/// The console's state.
#[derive(Debug, Clone)]
pub struct Model {
    release: Release,
    unix_s: u64,
    mono_s: u64,
    started_mono_s: Option<u64>,
    local: Seen,
    peer: Seen,
    page: Page,
    scroll: f32,
    scroll_max: f32,
    cursor: usize,
    dialog: Option<Dialog>,
    logs: Vec<LogLine>,
    logs_problem: Option<String>,
    level: LogLevel,
    tasks: Vec<Task>,
    next_task: u64,
    clients: Option<Clients>,
    clients_problem: Option<String>,
    code: Option<Shown>,
    /// Boots that began with the boot menu's factory reset, and whose question was put.
    asked: Vec<(Side, String)>,
    /// The board whose reset is being chosen.
    resetting: Option<Side>,
}

impl Model {
    /// A console that has heard nothing yet.
    pub fn new(release: Release) -> Self {
        Self {
            release,
            unix_s: 0,
            mono_s: 0,
            started_mono_s: None,
            local: Seen::default(),
            peer: Seen::default(),
            page: Page::Overview,
            scroll: 0.0,
            scroll_max: 0.0,
            cursor: 0,
            dialog: None,
            logs: Vec::new(),
            logs_problem: None,
            level: LogLevel::Info,
            tasks: Vec::new(),
            next_task: 1,
            clients: None,
            clients_problem: None,
            code: None,
            asked: Vec::new(),
            resetting: None,
        }
    }

    /// Takes in one event. The orders it returns are to be carried out by someone else.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Tick { unix_s, mono_s } => {
                (self.unix_s, self.mono_s) = (unix_s, mono_s);
                self.started_mono_s.get_or_insert(mono_s);
                if self.code.as_ref().is_some_and(|shown| mono_s >= shown.ends_mono_s) {
                    self.code = None;
                }
            }
            Event::Local(answer) => {
                self.local.take(answer, self.mono_s);
                self.ask_for_reset(Side::Here);
            }
            Event::Peer(answer) => {
                self.peer.take(answer, self.mono_s);
                self.ask_for_reset(Side::Other);
            }
            Event::Logs(answer) => self.take_logs(answer),
            Event::Clients(answer) => self.take_clients(answer),
            Event::Task { id, state } => self.take_task(id, state),
            Event::Key(key) => return self.key(key),
            Event::Go(page) => self.go(page),
            Event::Pick(index) => {
                self.cursor = index.min(self.choices().len().saturating_sub(1));
                return self.pick();
            }
            Event::Answer(yes) => return self.answer(yes),
            Event::Scroll(points) if self.dialog.is_none() => self.scroll_by(points),
            Event::Scroll(_) => {}
            Event::Range(points) => {
                self.scroll_max = if points.is_finite() { points.max(0.0) } else { 0.0 };
                self.scroll_by(0.0);
            }
        }
        Vec::new()
    }

    /// Puts the question that a board was started for from its boot menu, once in a boot. Another question that
    /// is open comes first.
    fn ask_for_reset(&mut self, side: Side) {
        // Without a role there is nothing to reset, and no updater.
        let board = self.board(side).filter(|board| board.role.is_some());
        let Some(boot) = board.map(|board| &board.boot) else { return };
        if self.dialog.is_some() || reset_entry_version(&boot.entry).is_none() {
            return;
        }
        let asked = (side, boot.boot_id.clone());
        if self.asked.contains(&asked) {
            return;
        }
        self.asked.retain(|(other, _)| *other != side);
        self.asked.push(asked);
        self.dialog = Some(Dialog { order: Order::ChooseReset(side), yes: false });
    }

    fn take_clients(&mut self, answer: Result<Box<Clients>, String>) {
        match answer {
            Ok(clients) => {
                match &mut self.code {
                    Some(shown) if clients.codes_waiting > 0 => shown.counted = true,
                    Some(shown) if shown.counted => self.code = None,
                    _ => {}
                }
                self.clients = Some(*clients);
                self.clients_problem = None;
                self.cursor = self.cursor.min(self.choices().len().saturating_sub(1));
            }
            Err(why) => self.clients_problem = Some(words::clean(&why)),
        }
    }

    fn take_task(&mut self, id: u64, state: TaskState) {
        let Some(task) = self.tasks.iter_mut().find(|t| t.id == id && t.running()) else { return };
        if let TaskState::Code(code) = &state {
            let ends_mono_s = self.mono_s.saturating_add(code.life_s);
            self.code = Some(Shown { code: code.clone(), ends_mono_s, counted: false });
        }
        task.state = state;
    }

    fn take_logs(&mut self, answer: Result<Vec<LogLine>, String>) {
        match answer {
            // While a person reads further down, the lines stay under their eyes.
            Ok(_) if self.scroll > 0.0 && !self.logs.is_empty() => {}
            Ok(mut lines) => {
                let surplus = lines.len().saturating_sub(LOG_LINES_MAX);
                lines.drain(..surplus);
                self.logs = lines;
                self.logs_problem = None;
            }
            Err(why) => self.logs_problem = Some(words::clean(&why)),
        }
    }

    fn key(&mut self, key: Key) -> Vec<Action> {
        if let Some(dialog) = &mut self.dialog {
            match key {
                Key::Left | Key::Right | Key::Tab { .. } => dialog.yes = !dialog.yes,
                Key::Enter => {
                    let yes = dialog.yes;
                    return self.answer(yes);
                }
                Key::Escape => self.dialog = None,
                _ => {}
            }
            return Vec::new();
        }
        match key {
            Key::Left | Key::Tab { back: true } => self.go(self.page.step(false)),
            Key::Right | Key::Tab { back: false } => self.go(self.page.step(true)),
            Key::Number(n) => {
                let index = usize::from(n).checked_sub(1);
                if let Some(page) = index.and_then(|i| PAGES.get(i)) {
                    self.go(*page);
                }
            }
            Key::Escape => self.go(Page::Overview),
            Key::Enter => match self.page {
                Page::Actions | Page::Clients => return self.pick(),
                Page::Logs => self.next_level(),
                _ => {}
            },
            Key::Up | Key::Down if !self.choices().is_empty() => self.move_cursor(key == Key::Down),
            Key::Up => self.scroll_by(-SCROLL_STEP),
            Key::Down => self.scroll_by(SCROLL_STEP),
            Key::PageUp => self.scroll_by(-SCROLL_PAGE),
            Key::PageDown => self.scroll_by(SCROLL_PAGE),
            Key::Home => self.scroll_by(-self.scroll_max),
            Key::End => self.scroll_by(self.scroll_max),
        }
        Vec::new()
    }

    fn go(&mut self, page: Page) {
        if self.dialog.is_some() {
            return;
        }
        self.resetting = None;
        if page != self.page {
            (self.scroll, self.scroll_max) = (0.0, 0.0);
            self.cursor = 0;
        }
        self.page = page;
    }

    fn scroll_by(&mut self, points: f32) {
        let wanted = if points.is_finite() { self.scroll + points } else { self.scroll };
        self.scroll = wanted.clamp(0.0, self.scroll_max);
    }

    fn move_cursor(&mut self, down: bool) {
        let last = self.choices().len().saturating_sub(1);
        self.cursor = if down {
            self.cursor.saturating_add(1).min(last)
        } else {
            self.cursor.saturating_sub(1)
        };
    }

    fn next_level(&mut self) {
        let at = LEVELS.iter().position(|l| *l == self.level).unwrap_or(0);
        let next = at.saturating_add(1).checked_rem(LEVELS.len()).unwrap_or(0);
        self.level = LEVELS.get(next).copied().unwrap_or(LogLevel::Info);
        self.scroll = 0.0;
    }

    fn pick(&mut self) -> Vec<Action> {
        let choice = self.choices().into_iter().nth(self.cursor);
        let Some(order) = choice.filter(|_| self.dialog.is_none()) else { return Vec::new() };
        if order.refusal(self).is_some() {
            return Vec::new();
        }
        if order.question(self).is_some() {
            self.dialog = Some(Dialog { order, yes: false });
            return Vec::new();
        }
        self.start(order)
    }

    fn answer(&mut self, yes: bool) -> Vec<Action> {
        let Some(dialog) = self.dialog.take() else { return Vec::new() };
        // The boards may have changed while the question was open.
        if !yes || dialog.order.refusal(self).is_some() {
            return Vec::new();
        }
        if let Order::ChooseReset(side) = dialog.order {
            self.go(Page::Actions);
            (self.resetting, self.cursor) = (Some(side), 0);
        }
        self.start(dialog.order)
    }

    fn start(&mut self, order: Order) -> Vec<Action> {
        let Some((side, request)) = order.request() else { return Vec::new() };
        let id = self.next_task;
        self.next_task = id.saturating_add(1);
        let state = TaskState::Running { message: "Asked for.".to_owned(), permille: None };
        self.tasks.push(Task { id, order, at_unix_s: self.unix_s, state });
        if self.tasks.len() > TASKS_MAX {
            // One that still runs is kept: its end must find its place.
            let ended = self.tasks.iter().position(|t| !t.running()).unwrap_or(0);
            self.tasks.remove(ended);
        }
        vec![Action { task: id, side, request }]
    }

    /// The release that runs.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The page shown.
    pub fn page(&self) -> Page {
        self.page
    }

    /// Points scrolled down.
    pub fn scroll(&self) -> f32 {
        self.scroll
    }

    /// True when the page is longer than the screen.
    pub fn scrolls(&self) -> bool {
        self.scroll_max > 0.0
    }

    /// Index of the marked order.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// The open question.
    pub fn dialog(&self) -> Option<&Dialog> {
        self.dialog.as_ref()
    }

    /// What can be ordered on the page shown, in the order of its list.
    pub fn choices(&self) -> Vec<Order> {
        match self.page {
            Page::Actions => match self.resetting {
                Some(side) => ResetLevel::ALL.map(|level| Order::ResetOne(side, level)).to_vec(),
                None => ORDERS.to_vec(),
            },
            Page::Clients => {
                let enrolled = self.enrolled().iter().take(CLIENTS_MAX);
                let revoke = enrolled.map(|client| Order::RevokeClient(client.name.clone()));
                std::iter::once(Order::AddClient).chain(revoke).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Enrolled PCs, as the file server last told.
    pub fn enrolled(&self) -> &[ClientStatus] {
        self.clients.as_ref().map_or(&[], |clients| &clients.enrolled)
    }

    /// Live connections to the file server, or `None` before it told of any.
    pub fn connections(&self) -> Option<&[ConnectionStatus]> {
        self.clients.as_ref().map(|clients| clients.connections.as_slice())
    }

    /// Why there is no fresh word about clients.
    pub fn clients_problem(&self) -> Option<&str> {
        self.clients_problem.as_deref()
    }

    /// The code that can be used now, and the seconds it has left.
    pub fn code(&self) -> Option<(&Code, u64)> {
        let shown = self.code.as_ref()?;
        Some((&shown.code, shown.ends_mono_s.saturating_sub(self.mono_s)))
    }

    /// A board, as it last answered.
    pub fn board(&self, side: Side) -> Option<&BoardStatus> {
        match side {
            Side::Here => self.local(),
            Side::Other => self.peer(),
        }
    }

    /// This board, as it last answered.
    pub fn local(&self) -> Option<&BoardStatus> {
        self.local.status.as_deref()
    }

    /// Why this board's control service does not answer; `None` while it does or was not asked yet.
    pub fn silent(&self) -> Option<&str> {
        self.local.silent(self.mono_s, self.began_mono_s())
    }

    /// The other board, as it last answered; it may be out of sight now.
    pub fn peer(&self) -> Option<&BoardStatus> {
        self.peer.status.as_deref()
    }

    /// True while the other board answers.
    pub fn peer_present(&self) -> bool {
        self.peer.status.is_some() && self.peer_silent().is_none() && self.silent().is_none()
    }

    /// Why the other board gave no answer.
    pub fn peer_silent(&self) -> Option<&str> {
        self.peer.silent(self.mono_s, self.began_mono_s())
    }

    /// Seconds since 1970 when the other board was last heard; `None` when never since this start.
    pub fn peer_heard_unix_s(&self) -> Option<u64> {
        // Counted back from now, because the wall clock may have been set in between.
        let ago = self.mono_s.saturating_sub(self.peer.at_mono_s?);
        Some(self.unix_s.saturating_sub(ago))
    }

    /// The boards that answer now.
    pub fn boards(&self) -> impl Iterator<Item = &BoardStatus> {
        self.local().into_iter().chain(self.peer().filter(|_| self.peer_present()))
    }

    /// Connections to shares of the boards in sight.
    pub fn clients(&self) -> u64 {
        self.boards()
            .flat_map(|b| &b.shares)
            .map(|s| u64::from(s.clients))
            .fold(0, u64::saturating_add)
    }

    /// Role of this board.
    pub fn role(&self) -> Option<Role> {
        self.local().and_then(|b| b.role)
    }

    /// The board that serves the shares: the storage board wherever it is, as last heard.
    pub fn storage(&self) -> Option<&BoardStatus> {
        let storage = |b: &&BoardStatus| b.role == Some(Role::Storage);
        self.local().filter(storage).or_else(|| self.peer().filter(storage))
    }

    /// Seconds since 1970.
    pub fn unix_s(&self) -> u64 {
        self.unix_s
    }

    /// Seconds since this console started.
    pub fn age_s(&self) -> u64 {
        self.mono_s.saturating_sub(self.began_mono_s())
    }

    fn began_mono_s(&self) -> u64 {
        self.started_mono_s.unwrap_or(self.mono_s)
    }

    /// IANA name of the box's time zone.
    pub fn zone(&self) -> &str {
        self.local().map_or("UTC", |b| b.time.zone.as_str())
    }

    /// Log lines at or above the wanted severity, newest first.
    pub fn logs(&self) -> impl Iterator<Item = &LogLine> {
        self.logs.iter().rev().filter(|l| l.level >= self.level)
    }

    /// Why there are no fresh log lines.
    pub fn logs_problem(&self) -> Option<&str> {
        self.logs_problem.as_deref()
    }

    /// Lowest severity shown.
    pub fn level(&self) -> LogLevel {
        self.level
    }

    /// Orders given, oldest first.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The events that a status of both boards amounts to, for drawing one off screen.
    pub fn events_of(status: BoxStatus) -> Vec<Event> {
        let mut boards = status.boards.into_iter();
        let absent = status.absent.into_iter().next();
        let local = boards
            .next()
            .map(Box::new)
            .ok_or_else(|| absent.clone().unwrap_or_else(|| "no board in the status".to_owned()));
        let missing = absent.unwrap_or_else(|| "no answer".to_owned());
        let peer = boards.next().map(Box::new).ok_or(missing);
        vec![Event::Local(local), Event::Peer(peer)]
    }
}
