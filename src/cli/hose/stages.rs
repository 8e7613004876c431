//! From arguments to what is done to records.

use super::args::HoseArgs;
use crate::hose::name::Uses;
use crate::hose::naming::KeyQuery;
use crate::hose::stage::Chain;

/// What the prefix asks of records.
pub(super) fn key_query(_args: &HoseArgs, _uses: &Uses) -> anyhow::Result<Option<Box<dyn KeyQuery>>> {
    Ok(None)
}

/// The stages, in the service's order.
pub(super) fn chain(_args: &HoseArgs) -> anyhow::Result<Chain> {
    Ok(Chain::default())
}
