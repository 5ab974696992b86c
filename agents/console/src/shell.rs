//! The loop: waits for input and facts, lets the model decide, draws what changed.

use crate::content::{self, Screen as Content};
use crate::input::{INPUT_DIR, Input, Inputs};
use crate::model::{Event, Model};
use crate::paint::Artist;
use crate::release::Release;
use crate::screen::Screen;
use crate::source::{Board, Feed, Source};
use crate::text;
use goblin_sys::vt::GraphicsMode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest sleep: screen and devices are looked at after it.
const NAP: Duration = Duration::from_secs(1);
/// Pause between two looks for new input devices.
const RESCAN: Duration = Duration::from_secs(3);
/// Pause between two looks whether the screen is still there.
const SCREEN_CHECK: Duration = Duration::from_secs(5);
/// The pointer disappears after this long without a move.
const POINTER_IDLE: Duration = Duration::from_secs(10);
/// A board without a screen is not an ill board: after this long the console counts as started.
const SCREENLESS: Duration = Duration::from_secs(10);
/// Drawings in a row for one event: a page is measured by the first and placed by the second.
const PASSES_MAX: usize = 3;

/// Runs until the process is ended.
pub fn run(release: Release) -> ExitCode {
    let started = Instant::now();
    let terminal = GraphicsMode::enter();
    if let Err(err) = &terminal {
        log("info", &format!("the kernel's terminal stays on: {err}"));
    }
    let feed = match Feed::start(Board::default()) {
        Ok(feed) => feed,
        Err(err) => {
            log("error", &format!("cannot start the threads that watch the boards: {err}"));
            return ExitCode::FAILURE;
        }
    };
    let mut shell = Shell::new(release, started);
    loop {
        shell.turn(&feed);
    }
}

/// One JSON line for PID 1's log.
pub(crate) fn log(level: &str, text: &str) {
    eprintln!("{}", serde_json::json!({ "level": level, "text": text }));
}

/// The screen and what is on it.
struct Stage {
    screen: Screen,
    artist: Artist,
    shown: Vec<[u8; 4]>,
    next: Vec<[u8; 4]>,
}

struct Shell {
    model: Model,
    started: Instant,
    inputs: Inputs,
    stage: Option<Stage>,
    drawn: Option<Content>,
    said: Vec<String>,
    pointer: Option<(f32, f32)>,
    pointer_moved: Instant,
    rescan_at: Instant,
    check_at: Instant,
    screen_problem: String,
    ready: bool,
}

impl Shell {
    fn new(release: Release, started: Instant) -> Self {
        Self {
            model: Model::new(release),
            started,
            inputs: Inputs::new(Path::new(INPUT_DIR)),
            stage: None,
            drawn: None,
            said: Vec::new(),
            pointer: None,
            pointer_moved: started,
            rescan_at: started,
            check_at: started,
            screen_problem: String::new(),
            ready: false,
        }
    }

    fn turn<S: Source>(&mut self, feed: &Feed<S>) {
        let now = Instant::now();
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mono_s = now.duration_since(self.started).as_secs();
        self.step(Event::Tick { unix_s, mono_s }, feed);
        for event in feed.take() {
            self.step(event, feed);
        }
        let pointer = self.read_inputs(feed);
        self.look_around(now);
        self.draw(pointer, feed);
        feed.want(self.model.page());
        self.publish();
        self.tell_ready(now);
        self.nap(feed);
    }

    fn step<S: Source>(&mut self, event: Event, feed: &Feed<S>) {
        for action in self.model.step(event) {
            log("info", &format!("ordered at the console: {:?} {:?}", action.side, action.request));
            feed.order(action);
        }
    }

    fn read_inputs<S: Source>(&mut self, feed: &Feed<S>) -> Vec<egui::Event> {
        let mut pointer = Vec::new();
        for input in self.inputs.read() {
            match input {
                Input::Key(key) => self.step(Event::Key(key), feed),
                Input::Wheel(points) => self.step(Event::Scroll(points), feed),
                Input::Move { x, y } => {
                    self.pointer = Some((x, y));
                    self.pointer_moved = Instant::now();
                    pointer.extend(self.place(x, y).map(egui::Event::PointerMoved));
                }
                Input::Button { down } => {
                    let at = self.pointer.and_then(|(x, y)| self.place(x, y));
                    pointer.extend(at.map(|pos| egui::Event::PointerButton {
                        pos,
                        button: egui::PointerButton::Primary,
                        pressed: down,
                        modifiers: egui::Modifiers::NONE,
                    }));
                }
            }
        }
        pointer
    }

    fn place(&self, x: f32, y: f32) -> Option<egui::Pos2> {
        self.stage.as_ref().map(|stage| stage.artist.points(x, y))
    }

    /// Finds new input devices, and a screen where there is none or the old one went away.
    fn look_around(&mut self, now: Instant) {
        if now >= self.rescan_at {
            self.inputs.rescan();
            self.rescan_at = now + RESCAN;
        }
        if now < self.check_at {
            return;
        }
        if self.stage.as_ref().is_some_and(|stage| !stage.screen.connected()) {
            log("warn", "the screen went away; looking for another");
            self.stage = None;
        }
        if self.stage.is_some() {
            self.check_at = now + SCREEN_CHECK;
            return;
        }
        // Asking every output for its screen is slow on real hardware: often only while a boot waits.
        self.check_at = now + if self.ready { SCREEN_CHECK } else { NAP };
        match Screen::open() {
            Ok(screen) => self.take_screen(screen),
            Err(err) => {
                let cause =
                    std::error::Error::source(&err).map_or_else(String::new, |s| format!(": {s}"));
                let problem = format!("{err}{cause}");
                if problem != self.screen_problem {
                    log("warn", &format!("no screen yet: {problem}"));
                    self.screen_problem = problem;
                }
            }
        }
    }

    fn take_screen(&mut self, screen: Screen) {
        let (width, height) = screen.size();
        log("info", &format!("screen {width} x {height} on {}", screen.path().display()));
        let artist = Artist::new(width, height);
        let (width, height) = artist.size();
        self.inputs.set_size(width, height);
        let blank = vec![[0; 4]; width.saturating_mul(height)];
        self.stage = Some(Stage { screen, artist, shown: Vec::new(), next: blank });
        self.drawn = None;
        self.screen_problem.clear();
    }

    fn draw<S: Source>(&mut self, mut pointer: Vec<egui::Event>, feed: &Feed<S>) {
        if self.pointer.is_some() && self.pointer_moved.elapsed() > POINTER_IDLE {
            self.pointer = None;
            pointer.push(egui::Event::PointerGone);
        }
        for _ in 0..PASSES_MAX {
            let content = content::screen(&self.model);
            let same = self.drawn.as_ref() == Some(&content);
            let Some(stage) = self.stage.as_mut().filter(|_| !same || !pointer.is_empty()) else {
                return;
            };
            let seconds = self.started.elapsed().as_secs_f64();
            let events = stage.artist.draw(&content, std::mem::take(&mut pointer), seconds);
            let shown = stage.show(self.pointer);
            self.drawn = Some(content);
            if let Err(err) = shown {
                log("warn", &format!("the screen went away: {err}"));
                self.stage = None;
                return;
            }
            for event in events {
                self.step(event, feed);
            }
        }
    }

    /// Offers the visible text to tests and screen readers.
    fn publish(&mut self) {
        let lines = match &self.drawn {
            Some(content) if self.stage.is_some() => text::lines(content),
            _ => text::lines(&content::screen(&self.model)),
        };
        if lines == self.said {
            return;
        }
        match goblin_sys::state::write("console", &lines) {
            Ok(()) => self.said = lines,
            Err(err) => log("warn", &format!("cannot publish the visible text: {err}")),
        }
    }

    fn tell_ready(&mut self, now: Instant) {
        if self.ready {
            return;
        }
        let drawn = self.stage.is_some() && self.drawn.is_some();
        if drawn {
            log("info", &format!("first frame after {} ms", self.started.elapsed().as_millis()));
        } else if now.duration_since(self.started) >= SCREENLESS {
            goblin_sys::notify::status(format!("no screen yet: {}", self.screen_problem));
        } else {
            return;
        }
        goblin_sys::notify::ready();
        self.ready = true;
    }

    fn nap<S: Source>(&self, feed: &Feed<S>) {
        let watched = feed.descriptor();
        let mut waits = vec![PollFd::from_borrowed_fd(watched, PollFlags::IN)];
        waits.extend(
            self.inputs.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        let nap = Timespec { tv_sec: i64::try_from(NAP.as_secs()).unwrap_or(1), tv_nsec: 0 };
        // An interrupted or refused wait only means one more look.
        if poll(&mut waits, Some(&nap)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Stage {
    /// Puts the drawn picture with the pointer on the screen: only the rows that changed.
    fn show(&mut self, pointer: Option<(f32, f32)>) -> Result<(), crate::screen::ScreenError> {
        let (width, height) = self.artist.size();
        self.next.clear();
        self.next.extend_from_slice(self.artist.pixels());
        if let Some((x, y)) = pointer {
            draw_pointer(&mut self.next, width, height, x, y);
        }
        let changed = |row: usize| {
            let range = row.saturating_mul(width)..row.saturating_add(1).saturating_mul(width);
            self.next.get(range.clone()) != self.shown.get(range)
        };
        let Some(first) = (0..height).find(|row| changed(*row)) else { return Ok(()) };
        let last = (first..height).rev().find(|row| changed(*row)).unwrap_or(first);
        self.screen.show(&self.next, width, first..last.saturating_add(1))?;
        std::mem::swap(&mut self.shown, &mut self.next);
        Ok(())
    }
}

/// The pointer: `#` is its edge, `o` its face.
const POINTER: [&str; 18] = [
    "#",
    "##",
    "#o#",
    "#oo#",
    "#ooo#",
    "#oooo#",
    "#ooooo#",
    "#oooooo#",
    "#ooooooo#",
    "#oooooooo#",
    "#ooooooooo#",
    "#oooooo####",
    "#ooo#oo#",
    "#oo##oo#",
    "#o#  #oo#",
    "##   #oo#",
    "      #oo#",
    "       ##",
];

fn draw_pointer(pixels: &mut [[u8; 4]], width: usize, height: usize, x: f32, y: f32) {
    let (left, top) = (x.max(0.0) as usize, y.max(0.0) as usize);
    for (row, line) in (top..height).zip(POINTER) {
        for (column, mark) in (left..width).zip(line.bytes()) {
            let colour = match mark {
                b'#' => [0, 0, 0, 255],
                b'o' => [255, 255, 255, 255],
                _ => continue,
            };
            if let Some(pixel) = pixels.get_mut(row.saturating_mul(width).saturating_add(column)) {
                *pixel = colour;
            }
        }
    }
}
