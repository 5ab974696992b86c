//! `goblin-console`: shows the box on the compute board's screen.
//!
//! Without arguments it takes the screen. With `--render` it draws a status file into a PNG and prints
//! the visible text.

use goblin_console::model::Key;
use goblin_console::png_file::{self, Order};
use goblin_console::release::Release;
use goblin_console::shell;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: goblin-console
       goblin-console --render FILE.png --status STATUS.json [--page 1..7] [--size 1280x800]
                      [--release RELEASE.json] [--logs LINES.json] [--clients CLIENTS.json] [--keys down,enter,...]";

fn main() -> ExitCode {
    // Arguments that are not UTF-8 are answered with the usage, like others that are not understood.
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    if arguments.is_empty() {
        goblin_sys::sandbox::report_refusals();
        let release = release(goblin_core_types::paths::RELEASE);
        return shell::run(release);
    }
    let Some(order) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match png_file::draw(&order) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!(
                "goblin-console: {err}: {}",
                std::error::Error::source(&err).map_or_else(String::new, ToString::to_string)
            );
            ExitCode::FAILURE
        }
    }
}

fn release(path: &str) -> Release {
    Release::with_accent(goblin_sys::board::release_at(path.as_ref()).accent.as_deref())
}

fn parse(arguments: &[String]) -> Option<Order> {
    let (mut picture, mut status) = (None, None);
    let mut order = Order {
        picture: PathBuf::new(),
        status: PathBuf::new(),
        page: 1,
        size: (1280, 800),
        logs: None,
        clients: None,
        keys: Vec::new(),
        release: Release::default(),
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next()?;
        match name.as_str() {
            "--render" => picture = Some(PathBuf::from(value)),
            "--status" => status = Some(PathBuf::from(value)),
            "--page" => order.page = value.parse().ok()?,
            "--size" => {
                let (width, height) = value.split_once('x')?;
                order.size = (width.parse().ok()?, height.parse().ok()?);
            }
            "--release" => order.release = release(value),
            "--logs" => order.logs = Some(PathBuf::from(value)),
            "--clients" => order.clients = Some(PathBuf::from(value)),
            "--keys" => order.keys = value.split(',').map(key).collect::<Option<_>>()?,
            _ => return None,
        }
    }
    Some(Order { picture: picture?, status: status?, ..order })
}

fn key(name: &str) -> Option<Key> {
    Some(match name {
        "left" => Key::Left,
        "right" => Key::Right,
        "up" => Key::Up,
        "down" => Key::Down,
        "tab" => Key::Tab { back: false },
        "pageup" => Key::PageUp,
        "pagedown" => Key::PageDown,
        "home" => Key::Home,
        "end" => Key::End,
        "enter" => Key::Enter,
        "esc" => Key::Escape,
        number => Key::Number(number.parse().ok()?),
    })
}
