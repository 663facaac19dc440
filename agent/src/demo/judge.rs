//! Case and observations → a row.

use std::time::Duration;

use anyhow::Result;

use super::case::{Act, Case, Expect, Source};
use super::perform::{Observation, perform};
use super::report::Row;
use super::story::Story;
use super::tail::DropLine;
use crate::lab::Lab;
use crate::lab::client::Outcome;

/// Long enough for the flow line of a conversation to be told beside it.
const AFTERWORD: Duration = Duration::from_millis(150);

/// The payload came back unchanged.
const ANSWER: &str = "answer";
/// Nothing came back, and the receiver's kernel counted nothing.
const SILENCE: &str = "silence";

/// Performs every case once without a filter: what can be dropped later must arrive now.
pub(crate) fn baseline(lab: &Lab, cases: &[Case]) -> Result<Vec<Observation>> {
    cases.iter().map(|case| perform(lab, case)).collect()
}

/// Performs a case under the agent and compares.
pub(crate) fn judge(lab: &Lab, case: &Case, without: &Observation, story: &mut Story<'_>) -> Result<Row> {
    story.say(&format!("→ {}", case.what))?;
    let mark = story.mark();
    let seen = perform(lab, case)?;
    let row = match case.expect {
        Expect::Reply => {
            story.listen(AFTERWORD)?;
            allowed(case, &seen)
        }
        Expect::Drop(reason, device) => {
            let wanted = Wanted { reason: reason.as_str(), device };
            let pair = (case.source.address(), case.act.target());
            let line = story.drop_line(mark, pair, wanted.reason)?;
            denied(case, &seen, line.as_ref(), wanted)
        }
    };
    let open = was_open(case, without);
    Ok(Row { without: plainly(without), holds: row.holds && open, ..row })
}

fn allowed(case: &Case, seen: &Observation) -> Row {
    Row::new(&case.what, ANSWER, &plainly(seen), seen.echoed)
}

/// What the drop line has to say.
#[derive(Clone, Copy)]
struct Wanted {
    reason: &'static str,
    device: Option<&'static str>,
}

fn denied(case: &Case, seen: &Observation, line: Option<&DropLine>, wanted: Wanted) -> Row {
    let told = line.map_or_else(|| "no drop line".to_owned(), told);
    let silent = seen.outcome == Outcome::TimedOut && seen.arrived == 0;
    let named =
        line.is_some_and(|line| line.reason == wanted.reason && line.device.as_deref() == wanted.device);
    let expected = format!("{SILENCE}, {}", told_as(wanted.reason, wanted.device));
    Row::new(&case.what, &expected, &format!("{}, {told}", plainly(seen)), silent && named)
}

fn told(line: &DropLine) -> String {
    told_as(&line.reason, line.device.as_deref())
}

fn told_as(reason: &str, device: Option<&str>) -> String {
    device.map_or_else(|| reason.to_owned(), |device| format!("{reason} {device}"))
}

/// Says whether the attempt succeeded, so that its absence later means something.
fn was_open(case: &Case, seen: &Observation) -> bool {
    match (case.source, case.act) {
        // The answer goes to whoever has the address; that the packet arrived is all a spoofer can hope for.
        (Source::Spoofed(_), _) => seen.arrived > 0,
        (Source::Own(_), Act::Scan(_)) => seen.outcome != Outcome::TimedOut,
        (Source::Own(_), _) => seen.echoed,
    }
}

fn plainly(seen: &Observation) -> String {
    match (&seen.outcome, seen.arrived) {
        (Outcome::Replied(_), _) if seen.echoed => ANSWER.to_owned(),
        (Outcome::Replied(_), _) => "changed answer".to_owned(),
        (Outcome::Refused, _) => "refused".to_owned(),
        (Outcome::Reset, _) => "reset".to_owned(),
        (Outcome::Unreachable, _) => "unreachable".to_owned(),
        (Outcome::TimedOut, 0) => SILENCE.to_owned(),
        (Outcome::TimedOut, arrived) => format!("{arrived} arrived"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{case, perform};
    use crate::lab::{Topology, privilege};

    #[test]
    fn every_attempt_succeeds_without_bulkhead() -> Result<()> {
        if !privilege::granted() {
            return Ok(());
        }
        let lab = Lab::new(&Topology::demo())?;
        let _servers = perform::start_servers(&lab)?;
        let cases = case::cases(lab.topology());
        for (case, seen) in cases.iter().zip(baseline(&lab, &cases)?) {
            assert!(was_open(case, &seen), "{}: {seen:?}", case.what);
            assert!(seen.arrived > 0, "{}: nothing was counted", case.what);
        }
        Ok(())
    }
}
