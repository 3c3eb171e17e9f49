//! Calls of the application.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::names;

/// A call of a method.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcRequest {
    /// The method.
    #[schema(schema_with = names::method)]
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
