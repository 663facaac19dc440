//! The project's chores, by the names that CI uses.

fn main() {}
