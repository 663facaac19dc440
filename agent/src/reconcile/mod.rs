//! observe → plan → apply: from the tables that are wanted to the rows that the kernel holds.
//!
//! A packet reads the epoch word once and then only what was published before it. So a change is
//! staged where no packet looks, published by one store, and swept after a grace period; an apply
//! that dies anywhere leaves the old tables or the new ones, never a mixture.

mod allocate;
mod by_device;
mod memory;
mod next;
mod observe;
mod op;
mod plan;
mod slots;
mod state;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bulkhead_common::abi::Generation;

pub use by_device::ByDevice;
pub use memory::Memory;
pub use next::Next;
pub use op::{Capacity, Op, Rows};
pub use plan::{Full, plan, plan_touched};
pub use state::State;

use crate::tables::{Tables, Touched};

const DO_NOT_FIT: &str = "the tables do not fit into the kernel's";

/// What an apply did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Applied {
    /// The generation that is in force now.
    pub generation: Generation,
    /// Stores and map updates it took; 0 if nothing had to change.
    pub changed: usize,
    /// How long it took, grace periods included.
    pub elapsed: Duration,
}

/// The only writer of the tables: knows what the kernel holds, so that a change costs what changed.
#[derive(Debug)]
pub struct Reconciler {
    state: State,
}

impl Reconciler {
    /// Reads what the kernel holds, and erases what an interrupted apply staged but never published.
    ///
    /// # Errors
    /// The kernel's tables cannot be read or written.
    pub fn observe(rows: &mut impl Rows) -> Result<Self> {
        Ok(Self { state: observe::recover(rows)? })
    }

    /// What the kernel holds.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// True if the kernel holds `tables` already, as far as is known.
    pub fn holds(&self, tables: &Tables) -> bool {
        plan(&self.state, tables).is_ok_and(|(ops, _)| ops.is_empty())
    }

    /// Makes the kernel hold `tables`, by one flip. Blocks for two grace periods if anything changes.
    ///
    /// # Errors
    /// Tables that do not fit ([`Full`], before anything is written), or a write that fails: what was
    /// in force before the call is in force still, or what was asked for is, whole.
    pub fn apply(&mut self, rows: &mut impl Rows, tables: &Tables) -> Result<Applied> {
        let started = Instant::now();
        let planned = plan(&self.state, tables).context(DO_NOT_FIT)?;
        self.carry_out(rows, planned, started)
    }

    /// As [`Self::apply`], for tables in which nothing differs from those that generation `since` brought but the rows
    /// of some devices. If another generation is in force, everything is looked at.
    ///
    /// # Errors
    /// The same.
    pub fn apply_touched(
        &mut self,
        rows: &mut impl Rows,
        tables: &Tables,
        touched: &Touched,
        since: Generation,
    ) -> Result<Applied> {
        if self.state.epoch.generation != since {
            return self.apply(rows, tables);
        }
        let started = Instant::now();
        let planned = plan_touched(&self.state, tables, touched).context(DO_NOT_FIT)?;
        self.carry_out(rows, planned, started)
    }

    fn carry_out(
        &mut self,
        rows: &mut impl Rows,
        (ops, next): (Vec<Op>, Next),
        started: Instant,
    ) -> Result<Applied> {
        if let Err(error) = rows.perform_all(&ops) {
            // What is known of the kernel is no longer true: look again before the next apply.
            self.state =
                observe::recover(rows).context("look at the kernel's tables after a failed apply")?;
            return Err(error).context("write the kernel's tables");
        }
        self.state.advance(&ops, next);
        Ok(Applied {
            generation: self.state.epoch.generation,
            changed: ops.len(),
            elapsed: started.elapsed(),
        })
    }
}
