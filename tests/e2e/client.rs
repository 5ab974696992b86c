//! A person's PC and a box: Debian's own kernel in a guest, the `goblin` program, and the box's file server in
//! this process, where codes are made, keys revoked and reboots played. One boot of the small guest.

use crate::bench::{folder, turn};
use anyhow::{Context, Result, anyhow, ensure};
use goblin_agent_share::{
    BoardKeys, Entrance, Gate, Introduction, Plain, Runs, Share, Shelf, end_in_order,
};
use goblin_core_ninep::{Limits, Stream};
use goblin_core_trust::PublicKey;
use goblin_core_trust::door::Invitation;
use goblin_sys::socket::{Listener, Socket};
use goblin_tests::client::{Client, ClientRequest, GOBLIN, HOST_ADDRESS, Ran};
use goblin_tls::Identity;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use xtask::lab::BOOT_LIMIT;

const LIMIT: Duration = Duration::from_secs(120);
const SEED: [u8; 32] = [1; 32];
const SHARE: &str = "data";
/// What is copied while the cable is out.
const BIG_BYTES: u32 = 48 << 20;
/// How long a box that reboots is away.
const AWAY: Duration = Duration::from_secs(2);
/// How long it is out: longer than the connection lives without it.
const CABLE_OUT: Duration = Duration::from_secs(20);

/// How a board stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Its power is cut.
    Cut,
    /// As PID 1 stops it.
    InOrder,
}

/// One run of a box's file server.
#[derive(Clone)]
struct Run {
    gate: Arc<Gate>,
    shelf: Shelf,
    runs: Runs,
    entrance: Arc<Entrance>,
}

impl Run {
    fn begin(state: &Path, boot_id: &str) -> Result<Self> {
        let me = Identity::from_seed(&SEED)?;
        let boards = BoardKeys { own: me.public(), peer: PublicKey::of_seed(&[2; 32]) };
        let gate = Arc::new(Gate::open(&state.join("access.json"), boards, vec![SHARE.into()])?);
        let share: Arc<Share> = Arc::new(Share::new(SHARE, &state.join("share"), false)?);
        let shares: Arc<[Arc<Share>]> = Arc::from([share]);
        let shelf = Shelf::from(shares);
        let runs = Runs::begin(&state.join("runs.json"))?;
        let about = Introduction {
            box_name: "test box".into(),
            boot_id: boot_id.into(),
            runs: Some(runs.clone()),
        };
        let (plain, limits) = (Plain::Refused, Limits::default());
        let entrance = Entrance::new(&me, gate.clone(), shelf.clone(), plain, limits, about)?;
        Ok(Self { gate, shelf, runs, entrance: Arc::new(entrance) })
    }
}

/// A box's file server, which can be rebooted.
struct FileBox {
    state: PathBuf,
    dir: PathBuf,
    port: u16,
    run: Arc<Mutex<Run>>,
    live: Arc<Mutex<Vec<Arc<Socket>>>>,
    on: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileBox {
    fn start(state: &Path) -> Result<Self> {
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = state.join("share");
        std::fs::create_dir_all(&dir)?;
        let listener = Listener::tcp_at(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let port = listener.local_port()?;
        let run = Arc::new(Mutex::new(Run::begin(state, "first")?));
        let live: Arc<Mutex<Vec<Arc<Socket>>>> = Arc::default();
        let on = Arc::new(AtomicBool::new(true));
        let (theirs, sockets, is_on) = (run.clone(), live.clone(), on.clone());
        std::thread::spawn(move || {
            listener.serve(
                64,
                |_| {},
                move |socket, peer| {
                    if is_on.load(Ordering::SeqCst) {
                        locked(&sockets).push(socket.clone());
                        let entrance = locked(&theirs).entrance.clone();
                        entrance.serve(socket, peer);
                    }
                },
            )
        });
        Ok(Self { state: state.into(), dir, port, run, live, on })
    }

    fn address(&self) -> String {
        format!("{HOST_ADDRESS}:{}", self.port)
    }

    fn code(&self) -> Result<String> {
        let invitation = Invitation { name: Some("pc".into()), user: Some("anna".into()) };
        Ok(self.gate().invite(&invitation)?.0.to_string())
    }

    fn gate(&self) -> Arc<Gate> {
        locked(&self.run).gate.clone()
    }

    /// Every connection ends; for a while nobody is admitted; then it is another run.
    fn reboot(&self, boot_id: &str, stop: Stop, away: Duration) -> Result<()> {
        self.on.store(false, Ordering::SeqCst);
        if stop == Stop::InOrder {
            let run = locked(&self.run).clone();
            end_in_order(&run.gate, &run.shelf, run.runs)?;
        }
        for socket in locked(&self.live).drain(..) {
            Stream::shutdown(&*socket);
        }
        *locked(&self.run) = Run::begin(&self.state, boot_id)?;
        std::thread::sleep(away);
        self.on.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// The person at the PC.
struct Person<'a> {
    pc: &'a mut Client,
    the_box: &'a FileBox,
}

impl Person<'_> {
    fn goblin(&mut self, words: &[&str]) -> Result<Ran> {
        self.pc.run(&[&[GOBLIN], words].concat(), None, LIMIT)
    }

    fn does(&mut self, words: &[&str]) -> Result<String> {
        let ran = self.goblin(words)?;
        ensure!(ran.code == 0, "`goblin {}` failed: {}", words.join(" "), ran.err.trim());
        println!("$ goblin {}\n{}", words.join(" "), ran.out.trim_end());
        Ok(ran.out)
    }

    fn fails(&mut self, words: &[&str], with: &str) -> Result<()> {
        let ran = self.goblin(words)?;
        ensure!(
            ran.code != 0 && ran.err.contains(with),
            "`goblin {}`: wanted `{with}`, got {ran:?}",
            words.join(" ")
        );
        println!("$ goblin {}\n{}", words.join(" "), ran.err.trim_end());
        Ok(())
    }

    fn mkdir(&mut self, dir: &str) -> Result<()> {
        let ran = self.pc.run(&["/init", "mkdir", dir], None, LIMIT)?;
        ensure!(ran.code == 0, "mkdir {dir}: {}", ran.err);
        Ok(())
    }

    fn logs_in(&mut self) -> Result<()> {
        let address = self.the_box.address();
        self.fails(&["ls", "box:data"], "not enrolled")?;
        self.fails(&["login", &address, "AAAAA-AAAAA"], "code")?;
        let code = self.the_box.code()?;
        let said = self.does(&["login", &address, &code])?;
        ensure!(said.contains("for the user anna"), "{said}");
        self.fails(&["login", &address, &code], "does not accept this code")?;
        let shares = self.does(&["shares"])?;
        ensure!(shares.contains("test-box:data") && shares.contains("write"), "{shares}");
        Ok(())
    }

    fn copies_without_a_mount(&mut self) -> Result<()> {
        self.does(&["put", "/src/small", "test-box:data/put"])?;
        ensure!(std::fs::read(self.the_box.dir.join("put"))? == b"small\n", "put is not put");
        self.does(&["get", "test-box:data/put", "/tmp/got"])?;
        let listed = self.does(&["ls", "test-box:data"])?;
        ensure!(listed.contains("put"), "{listed}");
        self.fails(&["get", "test-box:data/absent", "/tmp/x"], "absent")
    }

    /// Files are the user's, though the box knows one owner only.
    fn works_as_a_user(&mut self, way: &str) -> Result<()> {
        let ran = self.pc.run(&["/init", "try", "/mnt"], Some(1000), LIMIT)?;
        ensure!(ran.code == 0, "as a user, mounted by {way}: {}", ran.err);
        ensure!(ran.out.contains("\"one\\ntwo\\n\" 600 1000:1000"), "{way}: {}", ran.out);
        Ok(())
    }

    fn copies_while_the_cable_is_out(&mut self) -> Result<()> {
        let out_ms = u64::try_from(CABLE_OUT.as_millis())?;
        // From before the order, for the cable's time runs from when the guest takes it.
        let start = Instant::now();
        self.pc.ask(&ClientRequest::Cable { after_ms: 300, out_ms }, LIMIT)?;
        self.pc.ask(&ClientRequest::Copy { from: "/src".into(), to: "/mnt".into() }, LIMIT)?;
        ensure!(start.elapsed() > CABLE_OUT, "the copy was done before the cable was out");
        let same = std::fs::read(self.the_box.dir.join("big"))? == big();
        ensure!(same, "the copy is not what was copied");
        let status = self.does(&["status"])?;
        ensure!(status.contains("connected; 1 reconnection(s), 0 open file(s) lost"), "{status}");
        Ok(())
    }

    /// A box that stops in order has all that it took, synced or not: the copy knows nothing of it.
    fn copies_while_the_box_restarts(&mut self) -> Result<()> {
        let the_box = self.the_box;
        self.mkdir("/mnt/again")?;
        let growing = the_box.dir.join("again/big");
        let (copied, back) = std::thread::scope(|scope| -> Result<_> {
            let reboot = scope.spawn(|| {
                let start = Instant::now();
                let has_begun = || std::fs::metadata(&growing).is_ok_and(|meta| meta.len() > 0);
                while !has_begun() && start.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(5));
                }
                the_box.reboot("in order", Stop::InOrder, AWAY).expect("the box reboots");
                Instant::now()
            });
            let again = ClientRequest::Copy { from: "/src".into(), to: "/mnt/again".into() };
            let copied = self.pc.ask(&again, LIMIT);
            let back = reboot.join().map_err(|_| anyhow!("the box did not reboot"))?;
            Ok((copied.map(|_| Instant::now()), back))
        })?;
        let copied = copied.context("copying while the box restarts")?;
        ensure!(copied > back, "the copy was done before the box was away");
        let same = std::fs::read(&growing)? == big();
        ensure!(same, "the copy is not what was copied");
        let status = self.does(&["status"])?;
        ensure!(status.contains("connected; 2 reconnection(s), 0 open file(s) lost"), "{status}");
        Ok(())
    }

    /// Every record whose sync was answered is there, whatever the box did meanwhile.
    fn syncs_across_reboots(&mut self) -> Result<()> {
        let the_box = self.the_box;
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| {
                for run in ["second", "third"] {
                    std::thread::sleep(Duration::from_millis(1500));
                    the_box.reboot(run, Stop::Cut, AWAY).expect("the box reboots");
                }
            });
            self.pc.run(&["/init", "journal", "/mnt/journal"], None, LIMIT)
        })?;
        ensure!(ran.code == 0, "the journal: {}", ran.err);
        let last: u64 = ran.out.lines().last().context("no record")?.parse()?;
        let text = std::fs::read_to_string(the_box.dir.join("journal"))?;
        let kept: Vec<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        ensure!(kept == (0..=last).collect::<Vec<u64>>(), "acknowledged to {last}, kept {kept:?}");
        println!("{} records synced across two reboots; told of: {}", last + 1, ran.err.trim());
        Ok(())
    }

    fn is_revoked(&mut self) -> Result<()> {
        let cut = self.the_box.gate().revoke("pc")?;
        ensure!(cut > 0, "revoking cut nothing");
        let start = Instant::now();
        let ran = self.pc.run(&["/init", "try", "/mnt"], None, LIMIT)?;
        ensure!(ran.code != 0, "a revoked PC still writes");
        ensure!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
        self.fails(&["shares", "test-box"], "does not admit this PC")
    }
}

fn big() -> Vec<u8> {
    (0..BIG_BYTES).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_pc_uses_a_box() -> Result<()> {
    let _turn = turn();
    let dir = folder("pc")?;
    let source = dir.join("source");
    std::fs::create_dir(&source)?;
    std::fs::write(source.join("small"), "small\n")?;
    std::fs::write(source.join("big"), big())?;
    let the_box = FileBox::start(&dir)?;
    let spec = xtask::client_guest::spec(&source, &dir)?;
    let mut pc = Client::start(&spec, BOOT_LIMIT)?;
    let mut anna = Person { pc: &mut pc, the_box: &the_box };
    anna.logs_in()?;
    anna.copies_without_a_mount()?;
    anna.mkdir("/mnt")?;
    anna.does(&["mount", "test-box:data", "/mnt", "--direct"])?;
    let ran = anna.pc.run(&["/init", "try", "/mnt"], None, LIMIT)?;
    ensure!(ran.code == 0, "over the kernel's own TLS: {}", ran.err);
    ensure!(anna.does(&["status"])?.contains("by the kernel alone"), "no word of it");
    anna.does(&["umount", "/mnt"])?;
    anna.does(&["mount", "test-box:data", "/mnt", "--owner=1000:1000"])?;
    anna.works_as_a_user("relay")?;
    anna.copies_while_the_cable_is_out()?;
    anna.copies_while_the_box_restarts()?;
    anna.syncs_across_reboots()?;
    anna.is_revoked()?;
    anna.pc.ask(&ClientRequest::PowerOff, LIMIT).map(|_| ()).or(Ok(()))
}
