//! A kernel in memory, and who writes it.

use bulkhead::reconcile::{Capacity, Memory, Reconciler, State};
use bulkhead::tables::{Tables, Touched};

/// Tables that lie in memory, written as the kernel's are.
#[derive(Debug)]
pub struct Kernel {
    /// The rows.
    pub memory: Memory,
    /// Who writes them.
    pub reconciler: Reconciler,
}

impl Kernel {
    /// A kernel of this size that holds these tables.
    ///
    /// # Panics
    /// They do not fit.
    pub fn holding(tables: &Tables, capacity: Capacity) -> Self {
        let mut memory = Memory::new(capacity);
        let reconciler = Reconciler::observe(&mut memory).expect("memory can be read");
        let mut kernel = Self { memory, reconciler };
        kernel.apply(tables);
        kernel
    }

    /// Makes it hold other tables.
    ///
    /// # Panics
    /// They do not fit.
    pub fn apply(&mut self, tables: &Tables) {
        self.reconciler.apply(&mut self.memory, tables).expect("it fits");
    }

    /// Makes it hold tables in which nothing differs from those that it holds but some devices.
    ///
    /// # Panics
    /// They do not fit.
    pub fn apply_touched(&mut self, tables: &Tables, touched: &Touched) {
        let since = self.reconciler.state().epoch.generation;
        self.reconciler.apply_touched(&mut self.memory, tables, touched, since).expect("it fits");
    }

    /// What the agent believes, and what somebody reads in the rows.
    ///
    /// # Panics
    /// The rows contradict themselves.
    pub fn states(&self) -> [State; 2] {
        let read = Reconciler::observe(&mut self.memory.clone()).expect("memory can be read");
        [self.reconciler.state().clone(), read.state().clone()]
    }
}
