//! A unit for boots of goblin-init alone: a word says how it behaves. Used to see PID 1 at work under
//! QEMU, with nothing else in the image (`init/README.md` shows how).

use goblin_core_types::{InitRequest, LogFilter, paths};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // A service that is ready after so many milliseconds and then runs for so many.
        ["serve", ready_ms, run_ms] => {
            sleep(ready_ms);
            println!(r#"{{"level":"info","text":"serving","by":"example"}}"#);
            goblin_sys::notify::ready();
            sleep(run_ms);
        }
        // A service that never gets ready and says why.
        ["sick", why] => {
            goblin_sys::notify::status(why.replace(',', "\n"));
            sleep("1000000000");
        }
        ["exit", code] => {
            eprintln!("plain words before the end");
            std::process::exit(code.parse().unwrap_or(1))
        }
        ["abort"] => std::process::abort(),
        ["role", role] => {
            if let Err(err) = std::fs::write(paths::ROLE_FILE, format!("{role}\n")) {
                eprintln!("{err}");
            }
        }
        ["flood", count] => {
            for number in 0..count.parse().unwrap_or(0u32) {
                println!("line {number} of a flood that the ring cannot hold as a whole");
            }
        }
        // Says how it was started with sockets, and answers nobody.
        ["held"] => {
            kmsg(&format!("sockets {}", std::env::var("GOBLIN_SOCKETS").unwrap_or_default()));
            goblin_sys::notify::ready();
            sleep("1000000000");
        }
        // A listener of its own, a while after its start; PID 1 asks for it.
        ["open", path, after_ms] => {
            sleep(after_ms);
            let listener = std::os::unix::net::UnixListener::bind(path);
            sleep("1000000000");
            drop(listener);
        }
        // Asks PID 1 and copies its answer to the kernel's log.
        ["ask", question @ ..] => match request(question) {
            Some(request) => ask(&request),
            None => eprintln!("no such question: {question:?}"),
        },
        ["leave"] => leave(),
        ["say", wait_ms, text] => {
            sleep(wait_ms);
            kmsg(text);
        }
        ["show", path, word] => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().filter(|line| line.contains(word)).for_each(kmsg);
        }
        // In an image in the place of `goblin` and `goblin-console`.
        ["agent", "state" | "provision" | "bless"] => println!("done"),
        ["agent", "health"] => health(),
        ["agent", _] | [] => {
            goblin_sys::notify::ready();
            sleep("1000000000");
        }
        ["after", wait_ms, rest @ ..] => {
            sleep(wait_ms);
            let program = std::env::current_exe().unwrap_or_default();
            let ended = std::process::Command::new(program).args(rest).status();
            std::process::exit(ended.ok().and_then(|status| status.code()).unwrap_or(1))
        }
        other => {
            eprintln!("no such behaviour: {other:?}");
            std::process::exit(2)
        }
    }
}

/// Leaves a child behind that would speak later, if it lived.
fn leave() {
    let program = std::env::current_exe().unwrap_or_default();
    let child = std::process::Command::new(program).args(["say", "1000", "STILL HERE"]).spawn();
    if let Err(err) = child {
        eprintln!("{err}");
    }
}

fn request(question: &[&str]) -> Option<InitRequest> {
    let reason = || "asked by the example".to_owned();
    Some(match question {
        ["units"] => InitRequest::Units,
        ["graph"] => InitRequest::Graph,
        ["restart", unit] => InitRequest::Restart { unit: (*unit).to_owned() },
        ["stop", unit] => InitRequest::Stop { unit: (*unit).to_owned() },
        ["logs", unit] => InitRequest::Logs(LogFilter {
            unit: Some((*unit).to_owned()),
            follow: false,
            lines_max: 5,
        }),
        ["reboot"] => InitRequest::Reboot { reason: reason() },
        ["off"] => InitRequest::PowerOff { reason: reason() },
        _ => return None,
    })
}

/// The notes of the release say how it fares: `sick`, `panic`, or well.
fn health() {
    let notes = std::fs::read_to_string(paths::RELEASE).unwrap_or_default();
    if notes.contains("sick") {
        goblin_sys::notify::status("clock: never set\nlink: no cable");
    } else if notes.contains("panic") {
        sleep("2000");
        if let Err(err) = std::fs::write("/proc/sysrq-trigger", "c") {
            eprintln!("{err}");
        }
    } else {
        sleep("500");
        goblin_sys::notify::ready();
    }
    sleep("1000000000");
}

fn kmsg(text: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // A word for a person who watches; nobody waits for it.
        let _ = kmsg.write_all(format!("<3>answer: {text}\n").as_bytes());
    }
}

fn sleep(milliseconds: &str) {
    std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
}

fn ask(request: &InitRequest) {
    let answer = UnixStream::connect(paths::INIT_SOCKET).and_then(|mut socket| {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        socket.write_all(&line)?;
        for line in BufReader::new(socket).lines() {
            for piece in line?.as_bytes().chunks(800) {
                kmsg(&String::from_utf8_lossy(piece));
            }
        }
        Ok(())
    });
    if let Err(err) = answer {
        eprintln!("{err}");
        std::process::exit(1)
    }
}
