//! Numbers that name things in the kernel; 0 is nobody.

use bytemuck::{Pod, Zeroable};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The number that stands for nobody.
            pub const NONE: Self = Self(0);

            /// True for [`Self::NONE`].
            pub const fn is_none(self) -> bool {
                self.0 == 0
            }
        }
    };
}

id!(
    /// One private APN (3GPP: DNN / network instance); addresses mean something only inside it.
    NetworkId
);
id!(
    /// One enforced identity (a SIM).
    DeviceId
);
id!(
    /// Devices to which the same policies apply in the same roles.
    ProfileId
);
id!(
    /// One rule of one policy; the agent's catalogue maps it to the YAML name.
    RuleId
);
id!(
    /// Counts every change of the kernel's tables; only grows.
    Generation
);
