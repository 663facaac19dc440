

pub mod policy;
