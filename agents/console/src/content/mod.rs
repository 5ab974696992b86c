//! What is on the screen, in words: a [`Screen`] made from the [`Model`].
//!
//! Everything a person reads is decided here, already cleaned and bounded; the view adds places and
//! colours, [`crate::text`] adds line ends.

mod actions;
mod chrome;
mod clients;
mod history;
mod logs;
mod network;
mod overview;
mod storage;
mod updates;

use crate::model::{Model, Page};
use crate::release::Rgb;
use crate::words::{Badge, Tone};

/// Rows of one kind (units, disks, shares, interfaces) shown before the rest is only counted.
pub const ROWS_MAX: usize = 16;

/// Everything on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct Screen {
    /// Top line, the same on every page.
    pub header: Header,
    /// The pages' tabs.
    pub tabs: Vec<Tab>,
    /// The page.
    pub body: Vec<Row>,
    /// Points scrolled down.
    pub scroll: f32,
    /// The question that is open.
    pub dialog: Option<DialogBox>,
    /// Keys and what they do here.
    pub hints: Vec<Hint>,
    /// Colour of the release.
    pub accent: Rgb,
}

/// Top line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// This board's host name.
    pub name: String,
    /// Box and release.
    pub detail: String,
    /// Verdict over the whole box.
    pub verdict: Badge,
    /// Hour and minute.
    pub clock: String,
    /// Date, or what is wrong with the clock.
    pub date: String,
}

/// One page's tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab {
    /// Where it leads.
    pub page: Page,
    /// Number key.
    pub key: u8,
    /// True for the page shown.
    pub selected: bool,
}

/// Keys and what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The keys' caps.
    pub keys: &'static str,
    /// What they do.
    pub what: String,
}

/// The open question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogBox {
    /// The question.
    pub title: String,
    /// What will happen.
    pub sentences: Vec<String>,
    /// Button that leaves everything as it is.
    pub no: String,
    /// Button that carries it out.
    pub yes: String,
    /// True when the latter has the focus.
    pub yes_focused: bool,
}

/// A band of the page, from left to right.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Both boards and the cable between them.
    Pair {
        /// This board.
        left: Card,
        /// The cable.
        cable: Cable,
        /// The other board.
        right: Card,
    },
    /// Cards side by side, each with its share of the width.
    Cards(Vec<(u16, Card)>),
    /// A card across the page with its title at the left of its parts, which saves height.
    Band(Card),
    /// One large message.
    Poster(Poster),
    /// Log lines.
    Log(Vec<LogRow>),
    /// The list of orders and the results beside it.
    Menu {
        /// Orders.
        items: Vec<MenuItem>,
        /// Results.
        side: Card,
    },
}

/// The cable between the boards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// State and word.
    pub badge: Badge,
    /// Interface, duration of silence; may be empty.
    pub detail: String,
}

/// The picture in the head of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    /// A screen: the compute board.
    Compute,
    /// Stacked disks: the storage board.
    Storage,
}

/// A framed group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Card {
    /// Picture.
    pub icon: Option<Icon>,
    /// Title.
    pub title: String,
    /// Beside or below the title.
    pub subtitle: String,
    /// State, at the right of the title.
    pub badge: Option<Badge>,
    /// From top to bottom.
    pub parts: Vec<Part>,
    /// True for what is no longer current: drawn dim.
    pub stale: bool,
}

/// A part of a card.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A sentence with its state.
    Note(Tone, String),
    /// Plain text.
    Text(String),
    /// A small heading.
    Heading(String),
    /// A name and its value.
    Fact(String, String),
    /// A share of a whole.
    Bar {
        /// Name.
        label: String,
        /// Parts of a thousand.
        permille: u16,
        /// Both numbers in words.
        text: String,
        /// State.
        tone: Tone,
    },
    /// Releases side by side.
    Slots(Vec<(String, Badge)>),
    /// Columns.
    Table {
        /// Titles, with their share of the width.
        columns: Vec<(&'static str, u16)>,
        /// Cells, as many as columns.
        rows: Vec<Vec<Cell>>,
    },
    /// Events, newest first.
    Events(Vec<Happening>),
    /// Commands to type elsewhere, letter for letter.
    Code(Vec<String>),
    /// Lines as a machine wrote them.
    Lines(Vec<String>),
}

/// Something that came to an end on a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When, as short as it is clear.
    pub at: String,
    /// Board, or both.
    pub who: &'static str,
    /// State and sentence.
    pub badge: Badge,
    /// Why, where it did not go as asked; may be empty.
    pub reason: String,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// State; quiet cells have no mark.
    pub tone: Tone,
    /// Text.
    pub text: String,
}

impl Cell {
    /// A cell without a mark.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { tone: Tone::Quiet, text: text.into() }
    }

    /// A cell with a state.
    pub fn marked(badge: Badge) -> Self {
        Self { tone: badge.tone, text: badge.word }
    }
}

/// One large message in place of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poster {
    /// State.
    pub tone: Tone,
    /// In the largest letters.
    pub headline: String,
    /// Below it.
    pub sentences: Vec<String>,
    /// What to do, under a heading of its own.
    pub remedy: Vec<String>,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// Since the kernel started.
    pub at: String,
    /// Who wrote it.
    pub unit: String,
    /// Severity.
    pub tone: Tone,
    /// The severity's word.
    pub level: &'static str,
    /// What it says.
    pub text: String,
}

/// One entry of the list of orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuItem {
    /// Name.
    pub title: String,
    /// What it does, or why it cannot be done now.
    pub detail: String,
    /// True when it can be done.
    pub enabled: bool,
    /// True when Enter carries it out.
    pub selected: bool,
}

pub(crate) use clients::enrolled_detail;

/// The screen for a state.
pub fn screen(model: &Model) -> Screen {
    let body = match model.page() {
        Page::Overview => overview::page(model),
        Page::Storage => storage::page(model),
        Page::Updates => updates::page(model),
        Page::Network => network::page(model),
        Page::Logs => logs::page(model),
        Page::Actions => actions::page(model),
        Page::Clients => clients::page(model),
    };
    Screen {
        header: chrome::header(model),
        tabs: chrome::tabs(model),
        body,
        scroll: model.scroll(),
        dialog: chrome::dialog(model),
        hints: chrome::hints(model),
        accent: model.release().accent,
    }
}

/// `and 3 more`, where a list was cut.
fn rest(total: usize, shown: usize) -> Option<Part> {
    let more = total.checked_sub(shown).filter(|n| *n > 0)?;
    Some(Part::Text(format!("and {more} more")))
}

/// A fact, unless there is nothing to say.
fn fact(parts: &mut Vec<Part>, label: &str, value: impl Into<String>) {
    let value = value.into();
    if !value.is_empty() {
        parts.push(Part::Fact(label.to_owned(), value));
    }
}

/// A note for a problem, where there is one.
fn problem(parts: &mut Vec<Part>, tone: Tone, text: Option<&str>) {
    if let Some(text) = text.map(crate::words::clean).filter(|t| !t.is_empty()) {
        parts.push(Part::Note(tone, crate::words::capital(&text)));
    }
}
