//! Options at the end of a pcapng block.

use anyhow::Result;

use super::source::{Fields, Order};

const END: u16 = 0;

/// One option.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// What it is about; the meaning depends on the block.
    pub(super) code: u16,
    /// Its content.
    pub(super) value: &'a [u8],
    /// How numbers lie in it.
    pub(super) order: Order,
}

/// Hands over every option that is left in a block; there may be none, and the end need not be marked.
pub(super) fn each<'a>(fields: &mut Fields<'a>, mut take: impl FnMut(Item<'a>) -> Result<()>) -> Result<()> {
    while !fields.rest.is_empty() {
        let (code, length) = (fields.u16()?, fields.u16()?);
        if code == END {
            break;
        }
        let value = fields.padded(length.into())?;
        take(Item { code, value, order: fields.order })?;
    }
    Ok(())
}
