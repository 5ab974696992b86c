//! The wall clock and the battery clock.
//!
//! Sources: adjtimex(2); `include/uapi/linux/rtc.h` of the kernel.
#![allow(unsafe_code, reason = "adjtimex and RTC_SET_TIME have no safe wrapper")]

use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, Timespec, clock_settime};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest offset the kernel slews, in microseconds: half a second, at 500 parts in a million.
pub const SLEW_MICROS_MAX: i64 = 500_000;
/// The battery clock of a PC.
const RTC: &str = "/dev/rtc0";
const SECONDS_PER_DAY: u64 = 86_400;

/// Time since 1970 by the wall clock; zero while it stands before 1970.
pub fn now_unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sets the wall clock at once.
///
/// # Errors
/// `EPERM` without the right to set the clock, `EINVAL` for a time the kernel cannot hold.
pub fn step_to(since_1970: Duration) -> io::Result<()> {
    let time = Timespec {
        tv_sec: i64::try_from(since_1970.as_secs()).map_err(|_| io::ErrorKind::InvalidInput)?,
        tv_nsec: i64::from(since_1970.subsec_nanos()),
    };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

/// Lets the wall clock run faster (positive) or slower until it has moved by `micros`, at most
/// [`SLEW_MICROS_MAX`] either way; replaces an earlier slew.
///
/// # Errors
/// `EPERM` without the right to set the clock.
pub fn slew(micros: i64) -> io::Result<()> {
    // SAFETY: timex holds integers only, for which zero bytes are a valid value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = micros.clamp(SLEW_MICROS_MAX.saturating_neg(), SLEW_MICROS_MAX);
    adjust(&mut request)
}

/// Tells the kernel that the wall clock follows a time server.
///
/// # Errors
/// `EPERM` without the right to set the clock.
pub fn mark_synced() -> io::Result<()> {
    // SAFETY: timex holds integers only, for which zero bytes are a valid value.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    // Without STA_UNSYNC in the new status the flag is cleared.
    request.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    adjust(&mut request)
}

fn adjust(request: &mut libc::timex) -> io::Result<()> {
    // SAFETY: `request` is a whole timex, borrowed exclusively for the length of the call.
    match unsafe { libc::adjtimex(request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `struct rtc_time`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RtcTime {
    second: libc::c_int,
    minute: libc::c_int,
    hour: libc::c_int,
    day_of_month: libc::c_int,
    month_from_0: libc::c_int,
    years_since_1900: libc::c_int,
    day_of_week: libc::c_int,
    day_of_year: libc::c_int,
    daylight_saving: libc::c_int,
}

/// The macro makes a public function; the module keeps it in here.
mod ioctl {
    nix::ioctl_write_ptr!(rtc_set_time, b'p', 0x0a, super::RtcTime);
}

/// Writes a time, in UTC, to the battery clock, so that the next boot starts near the truth.
///
/// # Errors
/// `NotFound` on a board without one; otherwise the kernel's.
pub fn write_rtc(since_1970: Duration) -> io::Result<()> {
    let time = rtc_time(since_1970.as_secs());
    let rtc = rustix::fs::open(Path::new(RTC), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: the descriptor is open for the length of the call, and `time` has the layout of rtc_time.
    unsafe { ioctl::rtc_set_time(rtc.as_raw_fd(), &raw const time) }?;
    Ok(())
}

/// Calendar fields of a time in UTC. Days are counted in eras of 400 years that begin on 1 March, so
/// that the leap day is the last of its year.
fn rtc_time(unix_s: u64) -> RtcTime {
    let small = |value: u64| libc::c_int::try_from(value).unwrap_or(0);
    let days = unix_s / SECONDS_PER_DAY;
    let second_of_day = unix_s % SECONDS_PER_DAY;
    // 719,468 days lie between 1 March of year 0 and 1 January 1970.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leaps = (day_of_era / 1_460)
        .saturating_add(day_of_era / 146_096)
        .saturating_sub(day_of_era / 36_524);
    let year_of_era = day_of_era.saturating_sub(leaps) / 365;
    let before =
        (365 * year_of_era).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
    let day_of_year = day_of_era.saturating_sub(before);
    // Months from March: 5 months hold 153 days.
    let month_from_march = (5 * day_of_year).saturating_add(2) / 153;
    let day = day_of_year
        .saturating_sub((153 * month_from_march).saturating_add(2) / 5)
        .saturating_add(1);
    let month = if month_from_march < 10 {
        month_from_march.saturating_add(3)
    } else {
        month_from_march.saturating_sub(9)
    };
    let year =
        era.saturating_mul(400).saturating_add(year_of_era).saturating_add(u64::from(month <= 2));
    RtcTime {
        second: small(second_of_day % 60),
        minute: small(second_of_day / 60 % 60),
        hour: small(second_of_day / 3600),
        day_of_month: small(day),
        month_from_0: small(month.saturating_sub(1)),
        years_since_1900: small(year.saturating_sub(1900)),
        // The kernel ignores these three.
        day_of_week: 0,
        day_of_year: 0,
        daylight_saving: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(unix_s: u64) -> [libc::c_int; 6] {
        let t = rtc_time(unix_s);
        [t.years_since_1900 + 1900, t.month_from_0 + 1, t.day_of_month, t.hour, t.minute, t.second]
    }

    #[test]
    fn calendar_fields_are_right_around_leap_days() {
        assert_eq!(fields(0), [1970, 1, 1, 0, 0, 0]);
        assert_eq!(fields(951_782_399), [2000, 2, 28, 23, 59, 59]);
        assert_eq!(fields(951_782_400), [2000, 2, 29, 0, 0, 0]);
        assert_eq!(fields(951_868_800), [2000, 3, 1, 0, 0, 0]);
        assert_eq!(fields(1_795_181_400), [2026, 11, 20, 13, 30, 0]);
        assert_eq!(fields(4_107_542_399), [2100, 2, 28, 23, 59, 59]);
        assert_eq!(fields(4_107_542_400), [2100, 3, 1, 0, 0, 0]);
        assert_eq!(fields(1_830_297_599), [2027, 12, 31, 23, 59, 59]);
    }
}
