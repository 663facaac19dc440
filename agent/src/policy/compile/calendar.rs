//! When ports are open: rules' hours in boot time, laid over each other.
//!
//! Port lists are worked out once and shared by many rule sets, so while they are made an entry's
//! `windows` is the number of a run here. [`Calendar::place`] then gives a rule set its own runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bulkhead_common::abi::{PortRange, RuleId, Span, Window};

use super::ports::Opening;
use crate::policy::schedule::When;
use crate::policy::timeline::{BootStretch, Timeline};
use crate::tables::Rules;

/// When a rule is open; always if there is nothing.
pub(super) type Hours = Option<Rc<[BootStretch]>>;

/// The end of time.
const END: u64 = u64::MAX;
/// Of a rule that is not open within the horizon: its reason is the time, and not that there is no rule.
const NEVER: Window = Window { open: END, close: END, until: END, rule: RuleId::NONE, idle: 0 };

/// Runs of windows, each kept once.
pub(super) struct Calendar<'a> {
    timeline: &'a Timeline,
    hours: RefCell<BTreeMap<RuleId, Hours>>,
    runs: RefCell<Runs>,
}

/// Each run's number, and the run of each number.
#[derive(Default)]
struct Runs {
    numbers: BTreeMap<Rc<[Window]>, u32>,
    all: Vec<Rc<[Window]>>,
}

impl Runs {
    fn number(&mut self, run: Vec<Window>) -> u32 {
        let run: Rc<[Window]> = run.into();
        *self.numbers.entry(run).or_insert_with_key(|run| {
            self.all.push(Rc::clone(run));
            count(self.all.len() - 1)
        })
    }
}

impl<'a> Calendar<'a> {
    pub(super) fn new(timeline: &'a Timeline) -> Self {
        Self { timeline, hours: RefCell::default(), runs: RefCell::default() }
    }

    /// When a rule is open.
    pub(super) fn hours(&self, rule: RuleId, when: &When) -> Hours {
        if when.is_always() {
            return None;
        }
        let mut known = self.hours.borrow_mut();
        known.entry(rule).or_insert_with(|| Some(self.timeline.windows(when).into())).clone()
    }

    /// What an entry that these openings share has as its windows: the first that is open decides.
    pub(super) fn run(&self, openings: &[&Opening<'_>]) -> Span {
        if openings.first().is_none_or(|first| first.hours.is_none()) {
            return Span::EMPTY;
        }
        let run = overlay(openings);
        let len = count(run.len());
        Span { start: self.runs.borrow_mut().number(run), len }
    }

    /// Gives a rule set the windows that its entries refer to.
    pub(super) fn place(&self, rules: &mut Rules) {
        let all = &self.runs.borrow().all;
        if all.is_empty() {
            return;
        }
        let mut placed: BTreeMap<u32, u32> = BTreeMap::new();
        let mut windows = Vec::new();
        let timed = |entry: &&mut PortRange| entry.windows.len != 0;
        for entry in rules.port_lists_mut().flatten().filter(timed) {
            let start = placed.entry(entry.windows.start).or_insert_with_key(|number| {
                let start = count(windows.len());
                windows.extend(all.get(*number as usize).into_iter().flat_map(|run| run.iter()));
                start
            });
            entry.windows.start = *start;
        }
        rules.windows = windows;
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Windows of several openings: sorted, disjoint, joined where one opening goes on.
fn overlay(openings: &[&Opening<'_>]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for opening in openings {
        let always = [(0, END)];
        let stretches = opening.hours.as_deref().unwrap_or(&always);
        let added: Vec<Window> =
            stretches.iter().flat_map(|stretch| uncovered(&windows, *stretch, opening)).collect();
        windows.extend(added);
        windows.sort_by_key(|window| window.open);
    }
    let mut windows = joined(windows);
    let mut next = NEVER;
    for window in windows.iter_mut().rev() {
        // Where another one takes over at once, flows go on.
        window.until = if window.close == next.open { next.until } else { window.close };
        next = *window;
    }
    if windows.is_empty() { vec![NEVER] } else { windows }
}

/// The parts of a stretch in which nobody is open yet.
fn uncovered(taken: &[Window], (from, to): BootStretch, opening: &Opening<'_>) -> Vec<Window> {
    let window = |open, close| Window { open, close, until: close, rule: opening.rule, idle: opening.idle };
    let mut next = from;
    let mut parts = Vec::new();
    for other in taken.iter().filter(|other| other.open < to && other.close > from) {
        parts.extend((next < other.open).then(|| window(next, other.open)));
        next = next.max(other.close);
    }
    parts.extend((next < to).then(|| window(next, to)));
    parts
}

fn joined(windows: Vec<Window>) -> Vec<Window> {
    let mut joined: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        match joined.last_mut() {
            Some(last)
                if last.close == window.open && (last.rule, last.idle) == (window.rule, window.idle) =>
            {
                last.close = window.close;
            }
            Some(_) | None => joined.push(window),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::profiles::State;

    fn opening(rule: u32, hours: Option<&[BootStretch]>) -> Opening<'static> {
        Opening { rule: RuleId(rule), ports: &[], idle: 0, state: State::Open, hours: hours.map(Rc::from) }
    }

    fn laid_over(openings: &[Opening<'_>]) -> Vec<(u64, u64, u64, u32)> {
        let openings: Vec<&Opening<'_>> = openings.iter().collect();
        overlay(&openings).into_iter().map(|w| (w.open, w.close, w.until, w.rule.0)).collect()
    }

    #[test]
    fn the_first_that_is_open_decides_and_flows_last_while_any_is() {
        let first = opening(1, Some(&[(10, 20), (40, 50)]));
        let second = opening(2, Some(&[(15, 30), (35, 45), (60, 70)]));
        assert_eq!(
            laid_over(&[first, second]),
            [(10, 20, 30, 1), (20, 30, 30, 2), (35, 40, 50, 2), (40, 50, 50, 1), (60, 70, 70, 2)]
        );
    }

    #[test]
    fn behind_a_timed_rule_an_untimed_one_is_open_always() {
        let timed = opening(1, Some(&[(10, 20)]));
        assert_eq!(
            laid_over(&[timed, opening(2, None)]),
            [(0, 10, END, 2), (10, 20, END, 1), (20, END, END, 2)]
        );
    }

    #[test]
    fn what_is_not_open_within_the_horizon_is_closed_by_time() {
        assert_eq!(overlay(&[&opening(1, Some(&[]))]), [NEVER]);
    }

    #[test]
    fn stretches_that_touch_are_one() {
        assert_eq!(laid_over(&[opening(1, Some(&[(10, 20), (20, 30)]))]), [(10, 30, 30, 1)]);
    }
}
