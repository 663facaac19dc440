//! What has to be done to the table, as a value.

use super::rules::chains;
use super::{Found, Wanted};

/// One step. All steps of a plan are one transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Removes the table.
    Remove,
    /// Makes the table with its counters, chains and sets of interfaces.
    Frame,
    /// Takes rules and pools out.
    Empty,
    /// Puts rules and pools in.
    Fill,
    /// Lets an interface through.
    Hold(u32),
    /// Closes an interface.
    Release(u32),
}

/// Compares what is there with what is wanted. Counters survive unless somebody changed the frame itself.
pub fn plan(found: Option<&Found>, wanted: &Wanted) -> Vec<Step> {
    let whole = [Step::Frame, Step::Fill].into_iter();
    let hold = || wanted.held.iter().copied().map(Step::Hold);
    match found {
        None => whole.chain(hold()).collect(),
        Some(found) if !found.is_framed() => [Step::Remove].into_iter().chain(whole).chain(hold()).collect(),
        Some(found) => {
            let mut steps = Vec::new();
            // Closed first, all in one transaction: no packet sees half of it.
            steps.extend(found.held.difference(&wanted.held).copied().map(Step::Release));
            if found.rules != rules(wanted) || found.pools != wanted.pools {
                steps.extend([Step::Empty, Step::Fill]);
            }
            steps.extend(wanted.held.difference(&found.held).copied().map(Step::Hold));
            steps
        }
    }
}

/// The comments of all rules, chain by chain.
fn rules(wanted: &Wanted) -> Vec<(String, Vec<String>)> {
    let chains = chains(wanted.layer, wanted.local_output);
    let mut rules: Vec<_> = chains
        .iter()
        .map(|chain| (chain.name.to_owned(), chain.rules.iter().map(super::rules::Rule::comment).collect()))
        .collect();
    rules.sort();
    rules
}
