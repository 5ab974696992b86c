//! What a person can order here: the list, the confirmation each order needs, and the request it becomes.

use crate::model::{Model, TASKS_MAX};
use crate::words;
use goblin_core_types::{
    BoardStatus, InitRequest, ResetLevel, ShareCommand, SlotState, SlotStatus, UpdateCommand,
    UpdatePhase, UpdateStatus, Version,
};

/// Which of the two boards is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The board with this screen.
    Here,
    /// The other board of the box.
    Other,
}

impl Side {
    /// The board in words, inside a sentence.
    pub fn board(self) -> &'static str {
        match self {
            Self::Here => "this board",
            Self::Other => "the storage board",
        }
    }
}

/// A request to one board's control tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To `update/ctl`.
    Update(UpdateCommand),
    /// To `init/ctl`.
    Init(InitRequest),
    /// To `share/ctl`.
    Share(ShareCommand),
}

/// An order on its way: carried out by a thread, answered by `Event::Task`.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Number of the task that the answers belong to.
    pub task: u64,
    /// Board.
    pub side: Side,
    /// What is asked of it.
    pub request: Request,
}

/// Everything that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Look for a new release.
    Check,
    /// Upgrade both boards as one step.
    Upgrade,
    /// Take both boards back as one step.
    Rollback,
    /// Restart the board with this screen.
    RestartHere,
    /// Restart the other board.
    RestartOther,
    /// Switch off the board with this screen.
    OffHere,
    /// Switch off the other board.
    OffOther,
    /// Take both boards back to how they came.
    Reset(ResetLevel),
    /// Choose how much of a board goes that was started from the boot menu for it.
    ChooseReset(Side),
    /// Take one board back to how it came.
    ResetOne(Side, ResetLevel),
    /// Make a code with which a PC enrols itself.
    AddClient,
    /// Forget the enrolled PC of this name.
    RevokeClient(String),
}

/// Every order about the boards, as listed on the page of orders.
pub const ORDERS: [Order; 10] = [
    Order::Check,
    Order::Upgrade,
    Order::Rollback,
    Order::RestartHere,
    Order::RestartOther,
    Order::OffHere,
    Order::OffOther,
    Order::Reset(ResetLevel::Settings),
    Order::Reset(ResetLevel::System),
    Order::Reset(ResetLevel::All),
];

/// What is asked before an order is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The order in question form.
    pub title: String,
    /// What will happen, one sentence each.
    pub sentences: Vec<String>,
    /// Word on the button that carries it out.
    pub yes: String,
}

impl Order {
    /// Short name, for the list and for its result.
    pub fn title(&self) -> String {
        let fixed = match self {
            Self::Check => "Check for a new release",
            Self::Upgrade => "Upgrade both boards",
            Self::Rollback => "Go back to the previous release",
            Self::RestartHere => "Restart this board",
            Self::RestartOther => "Restart the storage board",
            Self::OffHere => "Switch this board off",
            Self::OffOther => "Switch the storage board off",
            Self::Reset(ResetLevel::Settings) => "Reset the settings",
            Self::Reset(ResetLevel::System) => "Reset the system",
            Self::Reset(ResetLevel::All) => "Reset everything but data",
            Self::ChooseReset(side) => return format!("Factory reset of {}", side.board()),
            Self::ResetOne(side, level) => {
                let whole = match level {
                    ResetLevel::Settings => "the settings",
                    ResetLevel::System => "the system",
                    ResetLevel::All => "everything but data",
                };
                return format!("Reset {whole} of {}", side.board());
            }
            Self::AddClient => "Enrol a PC",
            Self::RevokeClient(name) => return format!("Revoke {}", words::clean_to(name, 40)),
        };
        fixed.to_owned()
    }

    /// One line of what it does.
    pub fn detail(&self, model: &Model) -> String {
        match self {
            Self::Check => "Asks the update source. Changes nothing.".to_owned(),
            Self::Upgrade => match offered(model) {
                Some(to) if failed_on(model, to).is_some() => {
                    format!("Release {to} failed before; only a newer one is taken.")
                }
                Some(to) => format!("To release {to}: storage board first, then this one."),
                None => "To the newest release: storage board first, then this one.".to_owned(),
            },
            Self::Rollback => "Both boards start the release they ran before.".to_owned(),
            Self::RestartHere => "The screen goes dark for a moment.".to_owned(),
            Self::RestartOther => "Shares are away until it is back.".to_owned(),
            Self::OffHere if model.role().is_none() => {
                "Until its power button is pressed.".to_owned()
            }
            Self::OffHere => "Shares go on being served by the storage board.".to_owned(),
            Self::OffOther => "Shares are away until it is switched on by hand.".to_owned(),
            Self::Reset(ResetLevel::Settings) => {
                "Of both boards: enrolled PCs, rights, schedule. Files stay.".to_owned()
            }
            Self::Reset(ResetLevel::System) => {
                "Also logs and downloads. Names, keys and files stay.".to_owned()
            }
            Self::Reset(ResetLevel::All) => {
                "Both boards have to be provisioned again. Files stay.".to_owned()
            }
            Self::ChooseReset(_) => "Asks how much.".to_owned(),
            Self::ResetOne(_, ResetLevel::Settings) => {
                "Of this one alone: enrolled PCs, rights, schedule. Files stay.".to_owned()
            }
            Self::ResetOne(_, ResetLevel::System) => {
                "Also logs and downloads. Name, keys and files stay.".to_owned()
            }
            Self::ResetOne(_, ResetLevel::All) => {
                "It has to be provisioned again. Files stay.".to_owned()
            }
            Self::AddClient => "Shows a code to type on the PC, good once.".to_owned(),
            Self::RevokeClient(name) => super::content::enrolled_detail(model, name),
        }
    }

    /// Why the order cannot be given now, in one sentence; `None` when it can.
    pub fn refusal(&self, model: &Model) -> Option<String> {
        let provisioned = model.local().is_some_and(|b| b.role.is_some());
        let both = matches!(self, Self::Upgrade | Self::Rollback | Self::Reset(_));
        if model.tasks().iter().any(|t| t.order == *self && t.running()) {
            return Some("Under way.".to_owned());
        }
        if model.tasks().iter().filter(|t| t.running()).count() >= TASKS_MAX {
            return Some("Too many orders are under way; wait for one to end.".to_owned());
        }
        if model.local().is_none() {
            return Some("The control service does not answer yet.".to_owned());
        }
        if (both || *self == Self::Check) && !provisioned {
            return Some("This board is not provisioned.".to_owned());
        }
        let other = matches!(
            self,
            Self::RestartOther
                | Self::OffOther
                | Self::AddClient
                | Self::RevokeClient(_)
                | Self::ResetOne(Side::Other, _)
        );
        if (other || both) && !model.peer_present() {
            return Some("The storage board is not in sight.".to_owned());
        }
        let busy = |u: &UpdateStatus| {
            matches!(u.phase, UpdatePhase::Fetching | UpdatePhase::Building | UpdatePhase::Armed)
        };
        if both && model.boards().any(|b| busy(&b.update) || b.update.pair.is_some()) {
            return Some("An upgrade is under way.".to_owned());
        }
        let one = match self {
            Self::ResetOne(side, _) => model.board(*side),
            _ => None,
        };
        if one.is_some_and(|b| busy(&b.update) || b.update.pair.is_some()) {
            return Some("An upgrade is under way.".to_owned());
        }
        let listed = model.local().is_some_and(|b| !b.slots.is_empty());
        if *self == Self::Rollback && listed && previous(model).is_none() {
            return Some("No older release is kept on this board.".to_owned());
        }
        None
    }

    /// The confirmation it needs; `None` for what changes nothing.
    pub fn question(&self, model: &Model) -> Option<Question> {
        let clients = model.clients();
        let mut sentences = Vec::new();
        let yes = match self {
            Self::Check => return None,
            Self::Upgrade => {
                sentences.extend(upgrade_sentences(model));
                "Upgrade"
            }
            Self::Rollback => {
                match previous(model) {
                    Some(to) => sentences.push(format!("Both boards restart on release {to}.")),
                    None => sentences
                        .push("Both boards restart on the release before this one.".to_owned()),
                }
                sentences.push("Files on the shares stay as they are.".to_owned());
                "Go back"
            }
            Self::RestartHere => {
                sentences.push(
                    "Programs on this board end and the screen goes dark for a moment.".to_owned(),
                );
                sentences.push("The storage board goes on serving its shares.".to_owned());
                "Restart"
            }
            Self::RestartOther => "Restart",
            Self::OffHere => {
                sentences.push("Programs on this board end and the screen goes dark.".to_owned());
                sentences.push("It comes back only when its power button is pressed.".to_owned());
                "Switch off"
            }
            Self::OffOther => {
                sentences.push("It comes back only when its power button is pressed.".to_owned());
                "Switch off"
            }
            Self::Reset(_) | Self::ChooseReset(_) | Self::ResetOne(..) => {
                self.reset_sentences(&mut sentences)
            }
            Self::AddClient => {
                sentences.push(
                    "A code appears here. Who types it on a PC within ten minutes gets into the shares from that PC, until it is revoked."
                        .to_owned(),
                );
                "Show a code"
            }
            Self::RevokeClient(_) => {
                sentences.push(
                    "Its connections end at once and its key opens nothing any more.".to_owned(),
                );
                sentences.push(
                    "Files it wrote stay. It can be enrolled again with a new code.".to_owned(),
                );
                "Revoke"
            }
        };
        let cuts_off = matches!(self, Self::RestartOther | Self::OffOther);
        let resets = matches!(self, Self::Reset(_) | Self::ResetOne(..));
        if cuts_off || resets || matches!(self, Self::Upgrade | Self::Rollback) {
            sentences.push(match clients {
                0 => "No client uses a share now.".to_owned(),
                1 => "1 client uses a share now and will lose it for that time.".to_owned(),
                n => format!("{n} clients use a share now and will lose it for that time."),
            });
        }
        Some(Question { title: format!("{}?", self.title()), sentences, yes: yes.to_owned() })
    }

    /// Says what a reset does; answers the word on its button.
    fn reset_sentences(&self, sentences: &mut Vec<String>) -> &'static str {
        match self {
            Self::ResetOne(side, level) => {
                sentences.extend(told(*level, side.board(), "It restarts"));
            }
            Self::Reset(level) => {
                sentences.extend(told(*level, "both boards", "Both boards restart"));
            }
            Self::ChooseReset(side) => {
                let board = side.board();
                sentences.push(format!("The boot menu's factory reset was chosen on {board}."));
                sentences.push("Nothing has been reset, and nothing is until you say what.".into());
                return "Choose";
            }
            _ => {}
        }
        "Reset"
    }

    /// The board and the request it becomes.
    ///
    /// `None` for what leads to another order.
    pub fn request(&self) -> Option<(Side, Request)> {
        let reason = || "asked for at the console".to_owned();
        Some(match self {
            Self::ChooseReset(_) => return None,
            Self::ResetOne(side, level) => {
                let why = "chosen in the boot menu".to_owned();
                (*side, Request::Update(UpdateCommand::FactoryReset { level: *level, why }))
            }
            Self::Check => (Side::Here, Request::Update(UpdateCommand::Check)),
            Self::Upgrade => {
                (Side::Here, Request::Update(UpdateCommand::UpgradePair { to: None, from: None }))
            }
            Self::Rollback => {
                (Side::Here, Request::Update(UpdateCommand::RollbackPair { to: None }))
            }
            Self::Reset(level) => {
                let command = UpdateCommand::FactoryResetPair { level: *level, why: reason() };
                (Side::Here, Request::Update(command))
            }
            Self::RestartHere => {
                (Side::Here, Request::Init(InitRequest::Reboot { reason: reason() }))
            }
            Self::RestartOther => {
                (Side::Other, Request::Init(InitRequest::Reboot { reason: reason() }))
            }
            Self::OffHere => {
                (Side::Here, Request::Init(InitRequest::PowerOff { reason: reason() }))
            }
            Self::OffOther => {
                (Side::Other, Request::Init(InitRequest::PowerOff { reason: reason() }))
            }
            Self::AddClient => {
                (Side::Other, Request::Share(ShareCommand::AddClient { name: None, user: None }))
            }
            Self::RevokeClient(name) => {
                (Side::Other, Request::Share(ShareCommand::RevokeClient { name: name.clone() }))
            }
        })
    }
}

/// What a reset takes and leaves.
fn told(level: ResetLevel, on: &str, restarts: &str) -> [String; 3] {
    let list = |phrases: &[&str]| phrases.join("; ");
    [
        format!("On {on} goes: {}.", list(level.goes())),
        format!("Stays: {}.", list(level.stays())),
        format!("{restarts}. It cannot be undone."),
    ]
}

/// The release an upgrade would bring, where one is known and newer.
pub fn offered(model: &Model) -> Option<Version> {
    let local = model.local()?;
    local.update.offered.filter(|v| local.boot.version.is_none_or(|running| *v > running))
}

/// The board, in words, on which a release failed its trial and is not tried again.
pub fn failed_on(model: &Model, version: Version) -> Option<String> {
    let mut known = model.local().into_iter().chain(model.peer());
    let bad = |b: &&BoardStatus| b.update.quarantine.iter().any(|q| q.version == version);
    known.find(bad).map(|board| words::board(board.role).to_lowercase())
}

/// What an upgrade does to both boards, for the question before it.
fn upgrade_sentences(model: &Model) -> Vec<String> {
    let known = offered(model);
    let failed = known.and_then(|version| failed_on(model, version));
    let warning = known.zip(failed.as_ref()).map(|(version, board)| {
        format!("Release {version} failed on the {board} before: only a newer one is taken.")
    });
    let to = known.filter(|_| failed.is_none());
    let to = to.map_or_else(|| "the newest release".to_owned(), |v| format!("release {v}"));
    let mut sentences: Vec<String> = warning.into_iter().collect();
    sentences.extend([
        format!("Both boards download {to} and check it against its signature."),
        "The storage board restarts first, then this one.".to_owned(),
        "If one of them is not healthy on it, both return to what runs now.".to_owned(),
    ]);
    sentences
}

fn previous(model: &Model) -> Option<Version> {
    let local = model.local()?;
    let running = local.boot.version?;
    let good = |s: &&SlotStatus| s.state == SlotState::Good && s.version < running;
    local.slots.iter().filter(good).map(|s| s.version).max()
}
