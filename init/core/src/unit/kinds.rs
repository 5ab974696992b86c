//! The keys that depend on the kind of unit.

use super::{
    Address, Checker, DEVICE_BYTES_MAX, EVERY_MS_MIN, Kind, Probe, RawUnit, ReadyBy, Restart,
    TIME_MS_MAX, UnitError, WATCHDOG_MS_MIN,
};

impl Checker {
    /// Keys that other kinds have, and schedules.
    pub(super) fn check_kind(&self, raw: &RawUnit) -> Result<(), UnitError> {
        match (raw.kind, &raw.mount) {
            (Kind::Mount, None) => {
                return self.refuse(
                    "mount",
                    "is missing",
                    "write `what`, `where` and `type` in it",
                );
            }
            (Kind::Mount, Some(mount)) => {
                if let Some(problem) = mount.problem() {
                    return self.refuse("mount", problem, "write absolute paths and plain words");
                }
            }
            (_, Some(_)) => return self.refuse("mount", "is only for kind `mount`", "remove it"),
            (_, None) => {}
        }
        match (raw.kind, raw.device.as_deref()) {
            (Kind::Device, None | Some("")) => {
                return self.refuse("device", "is missing", "name it as in \"block:sda1\"");
            }
            (Kind::Device, Some(name)) if name.len() > DEVICE_BYTES_MAX || name.contains('\0') => {
                return self.refuse("device", "is no name", "name it as in \"block:sda1\"");
            }
            (Kind::Device, Some(_)) | (_, None) => {}
            (_, Some(_)) => return self.refuse("device", "is only for kind `device`", "remove it"),
        }
        self.check_schedule(raw)?;
        match (raw.kind, raw.watchdog_ms) {
            (_, None) => Ok(()),
            (Kind::Service, Some(ms)) if (WATCHDOG_MS_MIN..=TIME_MS_MAX).contains(&ms) => Ok(()),
            (Kind::Service, Some(_)) => {
                self.refuse("watchdog_ms", "is out of range", "write 1000 to 86400000")
            }
            (_, Some(_)) => self.refuse("watchdog_ms", "is only for services", "remove it"),
        }
    }

    fn check_schedule(&self, raw: &RawUnit) -> Result<(), UnitError> {
        let scheduled = raw.delay_ms > 0 || raw.every_ms.is_some();
        if scheduled && raw.kind != Kind::Task {
            let key = if raw.delay_ms > 0 { "delay_ms" } else { "every_ms" };
            return self.refuse(key, "is only for tasks", "remove it, or make it a task");
        }
        if raw.delay_ms > TIME_MS_MAX {
            return self.refuse("delay_ms", "is out of range", "write 0 to 86400000");
        }
        if raw.every_ms.is_some_and(|ms| !(EVERY_MS_MIN..=TIME_MS_MAX).contains(&ms)) {
            return self.refuse("every_ms", "is out of range", "write 1000 to 86400000");
        }
        Ok(())
    }

    /// When a unit is ready, and whom to ask.
    pub(super) fn ready(
        &self,
        kind: Kind,
        word: Option<&str>,
    ) -> Result<(ReadyBy, Option<Probe>), UnitError> {
        let fixed = match kind {
            Kind::Service => None,
            Kind::Task | Kind::Mount => Some(ReadyBy::Exit),
            Kind::Device | Kind::Socket | Kind::Milestone => Some(ReadyBy::State),
        };
        match (fixed, word) {
            (Some(ready), None) => Ok((ready, None)),
            (Some(ReadyBy::Exit), Some("exit")) => Ok((ReadyBy::Exit, None)),
            (Some(_), Some(_)) => self.refuse(
                "ready",
                "is only for services",
                "remove it: a task is ready when it exited with 0, other kinds by themselves",
            ),
            (None, None | Some("notify")) => Ok((ReadyBy::Notify, None)),
            (None, Some("start")) => Ok((ReadyBy::Start, None)),
            (None, Some(word)) => match Probe::parse(word) {
                Some(probe) => Ok((ReadyBy::Probe, Some(probe))),
                None => self.refuse(
                    "ready",
                    format!("is `{}`", word.chars().take(40).collect::<String>()),
                    "write \"notify\", \"start\", \"unix:/PATH\", \"tcp:127.0.0.1:PORT\", \"9p:\" and one \
                     of the last two, or \"dbus:NAME\"; a program that ends is a task",
                ),
            },
        }
    }

    /// Where a socket listens.
    pub(super) fn listen(
        &self,
        kind: Kind,
        word: Option<&str>,
    ) -> Result<Option<Address>, UnitError> {
        const REMEDY: &str = "write \"unix:/PATH\" or \"tcp:ADDRESS:PORT\"";
        match (kind, word) {
            (Kind::Socket, None) => self.refuse("listen", "is missing", REMEDY),
            (Kind::Socket, Some(word)) => match Address::parse(word) {
                Some(address) => Ok(Some(address)),
                None => self.refuse("listen", "is no address", REMEDY),
            },
            (_, None) => Ok(None),
            (_, Some(_)) => self.refuse("listen", "is only for kind `socket`", "remove it"),
        }
    }

    /// Whether it is started again. Where nothing is started, nothing is given up either.
    pub(super) fn restart(&self, kind: Kind, word: Option<Restart>) -> Result<Restart, UnitError> {
        match (kind, word) {
            (Kind::Task | Kind::Mount, Some(Restart::Always)) => self.refuse(
                "restart",
                "is `always` for something that ends by itself",
                "write \"on-failure\" or \"never\"; `every_ms` repeats a task",
            ),
            (Kind::Service, word) => Ok(word.unwrap_or(Restart::Always)),
            (Kind::Task | Kind::Mount, word) => Ok(word.unwrap_or(Restart::Never)),
            (Kind::Device | Kind::Socket | Kind::Milestone, None) => Ok(Restart::OnFailure),
            (Kind::Device | Kind::Socket | Kind::Milestone, Some(_)) => {
                self.refuse("restart", "is only for units with a process", "remove it")
            }
        }
    }
}
