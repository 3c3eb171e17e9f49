//! The transports over which a task publishes.

use crate::error::Result;
use crate::http_publish::Poster;
use crate::publish::Client;
use crate::publisher_task::{PublisherLog, PublisherTask};
use crate::swarm::Plan;
use crate::token::Secret;
use crate::{Args, Mode, PublishBy, floor_client, publish, websocket};

/// How one task publishes, with the state that it needs.
pub(super) enum PublishMode {
    Unary(Client),
    Batch(Client),
    Stream(Client),
    WebSocket(websocket::Socket),
    Http(Box<Poster>),
    /// To the floor server at this address.
    Floor(String),
}

impl PublishMode {
    /// Opens a publisher's connection, and returns one mode for each of its tasks.
    ///
    /// # Errors
    ///
    /// If the server can't be reached, or the token is invalid.
    pub(super) async fn open(
        args: &Args,
        plan: &Plan,
        token: Option<Secret>,
    ) -> Result<Vec<PublishMode>> {
        let client = |token| publish::connect(&args.grpc, token);
        Ok(match args.publish {
            PublishBy::Unary => {
                let client = client(token).await?;
                let tasks = (0..args.tasks_each()).map(|_| PublishMode::Unary(client.clone()));
                tasks.collect()
            }
            PublishBy::Http => {
                let poster = Poster::new(&plan.host, token.as_ref())?;
                let tasks =
                    (0..args.tasks_each()).map(|_| PublishMode::Http(Box::new(poster.clone())));
                tasks.collect()
            }
            PublishBy::Batch => vec![PublishMode::Batch(client(token).await?)],
            PublishBy::Stream => vec![PublishMode::Stream(client(token).await?)],
            PublishBy::Websocket => {
                vec![PublishMode::WebSocket(
                    websocket::connect(plan, token.as_ref()).await?,
                )]
            }
            PublishBy::Floor => vec![PublishMode::Floor(args.grpc.clone())],
        })
    }

    /// Publishes the events of `task`.
    ///
    /// # Errors
    ///
    /// If the server stops answering or refuses everything.
    pub(super) async fn publish(self, task: PublisherTask, args: &Args) -> Result<PublisherLog> {
        let (window, burst) = (args.window(), args.mode == Mode::Burst);
        match self {
            PublishMode::Unary(client) => publish::unary(client, task).await,
            PublishMode::Batch(client) => publish::batch(client, task, window).await,
            PublishMode::Stream(client) => publish::stream(client, task, window).await,
            PublishMode::WebSocket(socket) => websocket::publish(socket, task, window, burst).await,
            PublishMode::Http(poster) => poster.publish(task).await,
            PublishMode::Floor(address) => {
                floor_client::publish(&address, task, window, burst).await
            }
        }
    }
}
