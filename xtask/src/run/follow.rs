//! Follows a running box: its health, its machines, and the host's room for its disks.

use super::words::{self, View};
use super::{OFF_LIMIT, Stop, not_healthy};
use crate::lab::{self, BOOT_LIMIT};
use anyhow::Result;
use goblin_core_types::{BoxStatus, Role};
use goblin_tests::channel::Channel;
use goblin_tests::qemu::Board;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest that an answer may take; a board that starts gives none.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Between an answer and the next question.
const ASK_EVERY: Duration = Duration::from_millis(1500);
/// How soon a signal is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at the machines themselves.
const MACHINES_EVERY: Duration = Duration::from_secs(2);
/// A machine whose disk found no room goes on when the host has this much again, in bytes.
const ROOM_AGAIN_BYTES: u64 = 512 << 20;

/// The two running boards.
pub(super) struct Boards {
    pub(super) compute: Board,
    pub(super) storage: Board,
}

/// What was said already.
#[derive(Default)]
struct Said {
    line: String,
    greeted: bool,
    storage_off: bool,
    no_room: bool,
}

impl Boards {
    /// Follows until the person stops, the compute board is off, or (where asked) both are healthy.
    pub(super) fn follow(
        &mut self,
        view: &View<'_>,
        channel: &Arc<Channel>,
        stop: &Stop,
        screenshot: Option<&Path>,
        until_healthy: bool,
    ) -> Result<()> {
        let answers = ask(channel);
        let deadline = Instant::now() + BOOT_LIMIT;
        let mut said = Said::default();
        let mut looked = Instant::now();
        while !stop.asked() {
            if !self.compute.is_running() {
                println!("The compute board switched itself off; the storage board follows.");
                return Ok(());
            }
            if looked.elapsed() > MACHINES_EVERY {
                looked = Instant::now();
                self.look(view, &mut said);
            }
            let late = !said.greeted && Instant::now() > deadline;
            if late && until_healthy {
                return not_healthy(BOOT_LIMIT, &said.line);
            }
            let status = match answers.recv_timeout(LOOK_EVERY) {
                Ok(status) => status,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => None,
            };
            said.tell(status.as_ref());
            let Some(status) = status else { continue };
            let healthy = lab::both_healthy(&status, None);
            if said.greeted || !(healthy || late) {
                continue;
            }
            // A box that is not healthy after so long is shown as it is: a person may know why.
            said.greeted = true;
            println!("{}", words::screen(view, &status));
            if let Some(png) = screenshot.filter(|_| healthy) {
                self.shoot(channel, png)?;
            }
            if until_healthy {
                return Ok(());
            }
        }
        Ok(())
    }

    fn shoot(&mut self, channel: &Channel, png: &Path) -> Result<()> {
        lab::wait_screen(channel, |text| text.matches("Healthy").count() >= Role::ALL.len())?;
        self.compute.qmp().screenshot(png)?;
        println!("Screen written to {}", png.display());
        Ok(())
    }

    /// Looks at the machines: QEMU stops one whose disk finds no room on the host.
    fn look(&mut self, view: &View<'_>, said: &mut Said) {
        if !said.storage_off && !self.storage.is_running() {
            said.storage_off = true;
            println!("The storage board switched itself off; Ctrl-C and a new run start it again.");
        }
        let room = crate::host::room(&view.lab.spec().dir);
        for board in [&mut self.compute, &mut self.storage] {
            let stopped = board
                .qmp()
                .execute("query-status", json!({}))
                .is_ok_and(|status| status.get("status") == Some(&json!("io-error")));
            if !stopped {
                continue;
            }
            if room.is_some_and(|bytes| bytes > ROOM_AGAIN_BYTES) {
                println!("There is room again: the {} board goes on.", board.spec().name);
                said.no_room = false;
                // If it is refused, the next look tries again.
                let _ = board.qmp().execute("cont", json!({}));
            } else if !std::mem::replace(&mut said.no_room, true) {
                println!(
                    "The host's disk is full: the {} board stands still and loses nothing. Free at \
                     least {} MiB, and it goes on by itself.",
                    board.spec().name,
                    ROOM_AGAIN_BYTES >> 20
                );
            }
        }
    }

    /// Presses both power buttons; storage last, so that the compute board can let go of its shares.
    pub(super) fn stop(self) -> Result<()> {
        let first = self.compute.power_off(OFF_LIMIT);
        let second = self.storage.power_off(OFF_LIMIT);
        first.and(second)
    }
}

impl Said {
    fn tell(&mut self, status: Option<&BoxStatus>) {
        let line = status.map_or_else(
            || "the compute board does not answer (it may be starting)".into(),
            words::summary,
        );
        if line != self.line {
            println!("{line}");
            self.line = line;
        }
    }
}

/// Asks for the status again and again, until nobody wants the answers; `None`: no answer.
fn ask(channel_of_board: &Arc<Channel>) -> Receiver<Option<BoxStatus>> {
    let (sender, answers) = channel();
    let board = Arc::clone(channel_of_board);
    std::thread::spawn(move || {
        while sender.send(board.status(ANSWER_LIMIT).ok()).is_ok() {
            std::thread::sleep(ASK_EVERY);
        }
    });
    answers
}
