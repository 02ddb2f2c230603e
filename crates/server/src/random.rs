//! Random bits from the operating system, shaped as the ids that need them.

use syncline_protocol::OpId;

use crate::api_error::ApiError;

/// A new op_id, for a write whose sender brought none.
pub(crate) fn op_id() -> Result<OpId, ApiError> {
    bytes().map(OpId::from_bytes)
}

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok(bytes)
}
