//! The lab of namespaces for tests: the demo's own, so that both prove the same network.

pub use bulkhead::lab::client::{Client, Outcome};
pub use bulkhead::lab::inject::{Injector, mac};
pub use bulkhead::lab::live::LiveConnection;
pub use bulkhead::lab::load::Load;
pub use bulkhead::lab::privilege::granted;
pub use bulkhead::lab::server::{Endpoint, Received, Servers};
pub use bulkhead::lab::topology::{Access, DNS, Device, Dual, FORBIDDEN, OUTSIDER, SCADA, SERVER, Topology};
pub use bulkhead::lab::witness::{Match, Witness};
pub use bulkhead::lab::{Lab, Namespace};
