//! Questions over gRPC (`proto/tidings/hooks/v1`).

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use tidings_client::hooks as proto;
use tidings_client::hooks::hooks_service_client::HooksServiceClient;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig};
use tonic::{Code, Extensions, Request, Status};

use super::answer::{Failure, Stated};
use super::question::{Client, Question};
use crate::error::{Error, Result};
use crate::event::Timestamp;

/// The application over gRPC: one connection, which is opened with the first question.
pub(super) struct Grpc {
    client: HooksServiceClient<Channel>,
}

impl Grpc {
    /// A client for a host and port. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for `hooks.endpoint`.
    pub(super) fn new(authority: &str, is_tls: bool, answer_bytes: usize) -> Result<Self> {
        let wrong = |message: &'static str| Error::field("hooks.endpoint", message);
        let scheme = if is_tls { "https" } else { "http" };
        let mut endpoint = Channel::from_shared(format!("{scheme}://{authority}"))
            .map_err(|_| wrong("must be a URL"))?;
        if is_tls {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|_| wrong("the system's certificates can't be read"))?;
        }
        let client = HooksServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(answer_bytes);
        Ok(Grpc { client })
    }

    /// The request, and its encoding, which is signed.
    pub(super) fn request(question: &Question) -> (proto::AskRequest, Vec<u8>) {
        let Client {
            id,
            identity,
            transport,
            address,
            client_type,
            headers,
        } = &question.client;
        let identity = identity.as_deref();
        let user = identity.and_then(|identity| identity.user());
        let roles = identity.map_or(&[][..], |identity| identity.roles());
        let headers = headers.iter().flat_map(|headers| headers.iter());
        let data = question.data.as_ref();
        let request = proto::AskRequest {
            r#type: question.kind.as_str().to_owned(),
            connection: Some(proto::Connection {
                id: id.map(|id| id.to_string()).unwrap_or_default(),
                user: user.map(ToString::to_string).unwrap_or_default(),
                roles: roles.iter().map(ToString::to_string).collect(),
                claims: identity
                    .map_or("{}", |identity| identity.claims())
                    .to_owned(),
                transport: (*transport).to_owned(),
                address: address.to_string(),
                client_type: client_type.as_deref().unwrap_or_default().to_owned(),
            }),
            headers: headers
                .map(|(name, value)| proto::Header {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
                .collect(),
            token: question.token.as_deref().map(str::to_owned),
            channel: question.channel.clone(),
            event_type: question.event_type.clone(),
            data: data.map(|data| data.data().clone()),
            content_type: data
                .and_then(|data| data.explicit_content_type())
                .map(ToString::to_string)
                .unwrap_or_default(),
            method: question.method.as_deref().map(str::to_owned),
        };
        let bytes = request.encode_to_vec();
        (request, bytes)
    }

    /// Asks once.
    pub(super) async fn ask(
        &self,
        request: proto::AskRequest,
        headers: HeaderMap,
    ) -> Result<Stated, Failure> {
        let metadata = MetadataMap::from_headers(headers);
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let answer = self.client.clone().ask(request).await;
        let answer = answer.map_err(|status| failure(&status))?.into_inner();
        let bytes = answer.encoded_len();
        let text = |text: String| (!text.is_empty()).then_some(text);
        let expires_at = answer.expires_at.map(|at| {
            let micros = at.seconds.checked_mul(1_000_000);
            let micros = micros.and_then(|micros| micros.checked_add(i64::from(at.nanos) / 1000));
            micros
                .map(Timestamp::from_micros)
                .ok_or(Failure::Malformed("expires_at: out of range"))
        });
        Ok(Stated {
            allow: answer.allow,
            code: answer.code,
            message: answer.message,
            user: text(answer.user),
            roles: (!answer.roles.is_empty()).then_some(answer.roles),
            claims: text(answer.claims),
            channels: answer.channels,
            expires_at: expires_at.transpose()?,
            filter: answer.filter,
            data: answer.data.map(|data| Bytes::copy_from_slice(&data)),
            content_type: answer.content_type,
            cache_seconds: answer.cache_seconds.into(),
            bytes,
        })
    }
}

fn failure(status: &Status) -> Failure {
    let number = u16::try_from(i32::from(status.code())).unwrap_or(0);
    match status.code() {
        // tonic's code for an answer beyond the limit.
        Code::OutOfRange => Failure::TooLarge,
        Code::Unavailable => Failure::Unreachable,
        Code::DeadlineExceeded => Failure::Timeout,
        _ => Failure::Status(number),
    }
}
