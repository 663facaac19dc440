//! How far the wall clock is believed, and what windows of time are worked out from.
//!
//! The kernel compares boot time, which nobody sets. What is worked out from the wall clock stays as
//! it is while the clock goes on; it is worked out anew when somebody sets the clock, and when half of
//! the horizon is used up. After a boot nothing is believed before the clock is synchronised and past
//! the highest time ever seen.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use crate::datapath::Datapath;
use crate::policy::{Anchor, HORIZON, Pair, Timeline};
use crate::state::{KeptClock, boot_id};

/// How far the clocks may drift apart before windows are worked out anew: what NTP corrects in passing is
/// less, and an edge is still kept within a second.
const DRIFT: SignedDuration = SignedDuration::from_millis(250);

/// What the clocks say.
#[derive(Clone, Debug)]
pub struct Reading {
    boot: String,
    at: Pair,
    synchronised: bool,
}

impl Reading {
    /// Now.
    pub fn now() -> Self {
        let at = Pair { wall: Timestamp::now(), boot: Datapath::boot_ns() };
        Self { boot: boot_id(), at, synchronised: is_synchronised() }
    }
}

/// Why the clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nobody keeps it right.
    Unsynchronised,
    /// It was later already.
    Behind(Timestamp),
}

/// What the agent knows of time.
#[derive(Debug)]
pub struct Keeper {
    /// True if the clock is believed although the kernel knows of nobody who keeps it right.
    trusting: bool,
    kept: Option<KeptClock>,
    doubt: Option<Doubt>,
}

impl Keeper {
    /// Goes on from what was kept.
    pub fn new(trusting: bool, kept: Option<KeptClock>) -> Self {
        Self { trusting, kept, doubt: Some(Doubt::Unsynchronised) }
    }

    /// What windows are worked out from.
    pub fn timeline(&self) -> Timeline {
        self.anchor().map_or(Timeline::Unknown, Timeline::Known)
    }

    /// Where the clocks are, if the wall clock is believed.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.kept.as_ref().filter(|_| self.doubt.is_none()).map(|kept| kept.anchor)
    }

    /// Why nothing is known; nothing if it is.
    pub(super) const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// What there is to keep.
    pub const fn kept(&self) -> Option<&KeptClock> {
        self.kept.as_ref()
    }

    /// How far the clock was set back from the highest time that it showed.
    pub(super) fn behind(&self, now: &Reading) -> Option<Timestamp> {
        let kept = self.kept.as_ref().filter(|_| self.doubt.is_none())?;
        let expected = kept.seen.wall_at(now.at.boot);
        (expected.duration_since(now.at.wall) > DRIFT).then_some(kept.seen.wall)
    }

    /// Looks at the clocks; true if windows have to be worked out anew.
    pub fn look(&mut self, now: &Reading) -> bool {
        let before = self.timeline();
        match &mut self.kept {
            Some(kept) if kept.boot == now.boot => {
                follow(kept, now);
                self.doubt = None;
            }
            Some(_) | None => self.believe(now),
        }
        self.timeline() != before
    }

    /// In a boot whose clock was not believed yet.
    fn believe(&mut self, now: &Reading) {
        let mark = self.kept.as_ref().map(|kept| kept.seen.wall);
        self.doubt = match mark {
            _ if !now.synchronised && !self.trusting => Some(Doubt::Unsynchronised),
            Some(mark) if mark > now.at.wall => Some(Doubt::Behind(mark)),
            Some(_) | None => None,
        };
        if self.doubt.is_none() {
            self.kept = Some(KeptClock { boot: now.boot.clone(), seen: now.at, anchor: Anchor::new(now.at) });
        }
    }
}

fn follow(kept: &mut KeptClock, now: &Reading) {
    if now.at.wall > kept.seen.wall {
        kept.seen = now.at;
    }
    let drift = now.at.wall.duration_since(kept.anchor.now.wall_at(now.at.boot));
    let left = kept.anchor.horizon.duration_since(now.at.wall);
    if drift.abs() > DRIFT || left < HORIZON / 2 {
        kept.anchor = Anchor { seen: kept.seen, ..Anchor::new(now.at) };
    }
}

/// True if somebody keeps the wall clock right: NTP, PTP or the like (adjtimex(2), `STA_UNSYNC`).
pub(super) fn is_synchronised() -> bool {
    // SAFETY: all zeros is a valid `timex` (it asks and sets nothing), and it outlives the call.
    let (state, status) = unsafe {
        let mut timex = std::mem::zeroed::<libc::timex>();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    state != -1 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

/// Told by the kernel when somebody sets the wall clock; the timer looks where it cannot be asked to tell.
#[derive(Debug)]
pub struct Steps(Option<AsyncFd<Timer>>);

#[derive(Debug)]
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Steps {
    /// Starts to listen, inside an asynchronous runtime.
    pub fn start() -> Self {
        let timer = timer().inspect_err(|error| tracing::debug!("clock steps are looked for: {error:#}"));
        Self(timer.ok())
    }

    /// Waits until the clock was set.
    pub async fn next(&mut self) {
        let Some(timer) = &self.0 else { return std::future::pending().await };
        let Ok(mut ready) = timer.readable().await else { return std::future::pending().await };
        ready.clear_ready();
        // Reading it says that it was cancelled, and it tells of the next step only if it is armed again.
        let _ = timer.get_ref().0.wait();
        if let Err(error) = arm(&timer.get_ref().0) {
            tracing::warn!("clock steps are looked for from now on: {error:#}");
            self.0 = None;
        }
    }
}

fn timer() -> Result<AsyncFd<Timer>> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    arm(&timer)?;
    // SAFETY: the timer owns its descriptor: it is the same one, and open, for as long as the timer lives.
    let registered = unsafe { AsyncFd::register(Timer(timer)) };
    registered.map_err(|error| anyhow::Error::new(error.into_parts().1))
}

/// Expires long after everybody is gone; what matters is that setting the clock cancels it.
fn arm(timer: &TimerFd) -> nix::Result<()> {
    const FAR: Duration = Duration::from_secs(1 << 40);
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    timer.set(Expiration::OneShot(TimeSpec::from_duration(FAR)), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::When;

    const SECOND: u64 = 1_000_000_000;

    fn reading(boot: &str, seconds: u64, wall: &str) -> Reading {
        let at = Pair { wall: wall.parse().unwrap(), boot: seconds * SECOND };
        Reading { boot: boot.to_owned(), at, synchronised: true }
    }

    fn unsynchronised(reading: Reading) -> Reading {
        Reading { synchronised: false, ..reading }
    }

    /// Boot seconds at which a rule for the forenoon is closed.
    fn closes(keeper: &Keeper) -> Option<u64> {
        let when = When {
            not_before: Some("2026-12-01T06:00:00Z".parse().unwrap()),
            not_after: Some("2026-12-01T12:00:00Z".parse().unwrap()),
            ..When::default()
        };
        keeper.timeline().windows(&when).first().map(|(_, close)| close / SECOND)
    }

    fn at_ten() -> Keeper {
        let mut keeper = Keeper::new(false, None);
        assert!(keeper.look(&reading("a", 1_000, "2026-12-01T10:00:00Z")));
        assert_eq!(closes(&keeper), Some(8_200));
        keeper
    }

    #[test]
    fn a_clock_that_goes_on_changes_nothing() {
        let mut keeper = at_ten();
        assert!(!keeper.look(&reading("a", 1_060, "2026-12-01T10:01:00.2Z")));
        assert_eq!(keeper.kept().unwrap().seen.wall, "2026-12-01T10:01:00.2Z".parse().unwrap());
    }

    #[test]
    fn a_step_forward_moves_the_deadline_and_a_step_back_does_not_move_it_again() {
        let mut keeper = at_ten();
        assert!(keeper.look(&reading("a", 1_100, "2026-12-01T11:59:00Z")));
        assert_eq!(closes(&keeper), Some(1_160));
        // Back to where it was: nothing is prolonged.
        assert!(keeper.look(&reading("a", 1_110, "2026-12-01T10:01:50Z")));
        assert_eq!(closes(&keeper), Some(1_160));
        assert!(keeper.behind(&reading("a", 1_110, "2026-12-01T10:01:50Z")).is_some());
        // Past the edge it stays closed, whatever the clock shows.
        keeper.look(&reading("a", 1_170, "2026-12-01T07:00:00Z"));
        assert_eq!(closes(&keeper), None);
    }

    #[test]
    fn a_day_ahead_and_back_leaves_closed_what_had_closed() {
        let mut keeper = at_ten();
        keeper.look(&reading("a", 1_100, "2026-12-02T10:00:00Z"));
        assert_eq!(closes(&keeper), None);
        keeper.look(&reading("a", 1_200, "2026-12-01T10:00:00Z"));
        assert_eq!(closes(&keeper), None);
        keeper.look(&reading("a", 1_300, "1970-01-01T00:00:00Z"));
        assert_eq!(closes(&keeper), None);
    }

    #[test]
    fn half_of_the_horizon_is_always_ahead() {
        let mut keeper = at_ten();
        let days = |days: u64| 1_000 + days * 86_400;
        assert!(!keeper.look(&reading("a", days(6), "2026-12-07T10:00:00Z")));
        assert!(keeper.look(&reading("a", days(8), "2026-12-09T10:00:00Z")));
    }

    #[test]
    fn after_a_boot_the_clock_must_be_synchronised_and_past_the_highest_time_seen() {
        let mut keeper = at_ten();
        keeper.look(&reading("a", 1_100, "2026-12-01T10:30:00Z"));
        let mut keeper = Keeper::new(false, keeper.kept().cloned());
        keeper.look(&unsynchronised(reading("b", 5, "2026-12-01T10:45:00Z")));
        assert_eq!((closes(&keeper), keeper.doubt()), (None, Some(Doubt::Unsynchronised)));
        keeper.look(&reading("b", 6, "2026-12-01T10:29:59Z"));
        let mark = "2026-12-01T10:30:00Z".parse().unwrap();
        assert_eq!((closes(&keeper), keeper.doubt()), (None, Some(Doubt::Behind(mark))));
        keeper.look(&reading("b", 7, "2026-12-01T11:00:00Z"));
        assert_eq!((closes(&keeper), keeper.doubt()), (Some(3_607), None));
        // Once believed it stays so: the boot clock goes on without anybody.
        keeper.look(&unsynchronised(reading("b", 8, "2026-12-01T11:00:01Z")));
        assert_eq!(closes(&keeper), Some(3_607));
    }

    #[test]
    fn a_restart_in_the_same_boot_goes_on_where_it_was() {
        let keeper = at_ten();
        let mut again = Keeper::new(false, keeper.kept().cloned());
        again.look(&unsynchronised(reading("a", 1_010, "2026-12-01T10:00:10Z")));
        assert_eq!(again.timeline(), keeper.timeline());
        // While nobody looked, the clock was set back: the deadline stays.
        let mut again = Keeper::new(false, keeper.kept().cloned());
        again.look(&reading("a", 1_010, "2026-12-01T09:00:00Z"));
        assert_eq!(closes(&again), Some(8_200));
    }

    #[test]
    fn a_host_that_says_so_is_believed_without_ntp() {
        let mut keeper = Keeper::new(true, None);
        keeper.look(&unsynchronised(reading("a", 5, "2026-12-01T10:00:00Z")));
        assert_eq!(closes(&keeper), Some(7_205));
    }

    #[tokio::test]
    async fn the_kernel_takes_the_timer() {
        assert!(timer().is_ok());
    }
}
