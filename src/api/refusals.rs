//! The error responses of the HTTP API. Each is described once in the document, and is named in the
//! `responses` of the operations that may return it.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type};

/// Declares the error responses: name, status and description of each.
macro_rules! refusals {
    ($($name:ident = $status:literal, $description:literal;)*) => {
        $(
            #[doc = $description]
            #[derive(Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    reference($status, stringify!($name))
                }
            }
        )*

        /// All of them by name, for the document's components.
        #[must_use]
        pub fn all() -> BTreeMap<String, RefOr<Response>> {
            let all = [$((stringify!($name), describe($status, $description)),)*];
            all.into_iter()
                .map(|(name, response)| (name.to_owned(), RefOr::T(response)))
                .collect()
        }
    };
}

refusals! {
    BadRequest = "400", "The request is invalid; `errors` names the field.";
    Unauthenticated = "401", "There is no valid token.";
    PermissionDenied = "403", "The token's roles, or the namespace's rules, do not allow it.";
    NotFound = "404", "It does not exist.";
    TooLarge = "413", "The body or the payload is too large.";
    UnsupportedMediaType = "415", "The content type is not supported.";
    ResourceExhausted = "429", "A limit is reached; `Retry-After` says when to retry.";
    Unavailable = "503", "Temporarily unavailable; `Retry-After` says when to retry.";
}

/// The error responses of every operation that needs a token: no valid token, a token without
/// permission, and a server that can't verify tokens at present.
#[derive(Debug)]
pub struct Guarded;

impl IntoResponses for Guarded {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = Unauthenticated::responses();
        all.extend(PermissionDenied::responses());
        all.extend(Unavailable::responses());
        all
    }
}

fn reference(status: &str, name: &str) -> BTreeMap<String, RefOr<Response>> {
    let reference = RefOr::Ref(Ref::from_response_name(name));
    BTreeMap::from([(status.to_owned(), reference)])
}

fn describe(status: &str, description: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", problem.build());
    if status != "401" {
        return response.build();
    }
    let scheme = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["Bearer"]));
    let header = HeaderBuilder::new().schema(Some(scheme)).build();
    response.header("WWW-Authenticate", header).build()
}
