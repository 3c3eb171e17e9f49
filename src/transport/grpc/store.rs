//! `tidings.v1.StoreService`.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::rpc_context::{Procedure, RpcContext};
use super::service::store_service_server::StoreService;
use crate::admin::Admin;
use crate::error::Result;
use crate::proto::{BackupRequest, BackupResponse};
use crate::telemetry::Span;

/// The service for the store.
pub(super) struct Stores {
    context: RpcContext,
}

impl Stores {
    pub(super) fn new(context: RpcContext) -> Self {
        Stores { context }
    }
}

#[tonic::async_trait]
impl StoreService for Stores {
    type BackupStream = Backup;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Backup>, Status> {
        let procedure = Procedure("tidings.v1.StoreService", "Backup");
        let (call, span) = self.context.enter(procedure, request)?;
        let admin = Admin::new(call.session.services(), call.session.identity());
        match admin.and_then(|admin| admin.backup()) {
            Ok(parts) => Ok(Response::new(Backup {
                parts,
                context: self.context.clone(),
                span,
                over: false,
            })),
            Err(error) => Err(self.context.refuse(span, &error)),
        }
    }
}

/// The parts of a backup.
pub(super) struct Backup {
    parts: Receiver<Result<Bytes>>,
    context: RpcContext,
    span: Span,
    over: bool,
}

impl Stream for Backup {
    type Item = Result<BackupResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match std::task::ready!(this.parts.poll_recv(cx)) {
            Some(Ok(part)) => Some(Ok(BackupResponse { part })),
            Some(Err(error)) => {
                this.over = true;
                let span = std::mem::take(&mut this.span);
                Some(Err(this.context.refuse(span, &error)))
            }
            None => {
                this.over = true;
                this.context.finish(std::mem::take(&mut this.span), None);
                None
            }
        })
    }
}
