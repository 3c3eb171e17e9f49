//! Calls of the application.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A call of a method.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcRequest {
    /// The method.
    #[schema(min_length = 1, max_length = 255)]
    pub method: String,
    /// The arguments, any JSON.
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    pub data: Option<Box<RawValue>>,
}

/// The result of a call.
#[derive(Debug, Serialize, ToSchema)]
pub struct RpcResult<'a> {
    /// Any JSON, as the application returned it.
    #[schema(value_type = serde_json::Value)]
    pub data: Option<&'a RawValue>,
}
