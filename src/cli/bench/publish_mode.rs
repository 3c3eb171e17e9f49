//! The ways in which a lane's events reach the server.

use super::http_publish::Poster;
use super::lane::{Lane, LaneLog};
use super::publish::Client;
use super::swarm::Plan;
use super::token::Secret;
use super::{Args, Mode, PublishBy, floor_link, publish, websocket};
use crate::error::Result;

/// How one lane publishes, with what it needs for that.
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
    /// Opens a publisher: a way for each of its lanes.
    ///
    /// # Errors
    /// If the server can't be reached, or the token is not usable.
    pub(super) async fn open(
        args: &Args,
        plan: &Plan,
        token: Option<Secret>,
    ) -> Result<Vec<PublishMode>> {
        let client = |token| publish::connect(&args.grpc, token);
        Ok(match args.publish {
            PublishBy::Unary => {
                let client = client(token).await?;
                let lanes = (0..args.lanes_each()).map(|_| PublishMode::Unary(client.clone()));
                lanes.collect()
            }
            PublishBy::Http => {
                let poster = Poster::new(&plan.host, token.as_ref())?;
                let lanes =
                    (0..args.lanes_each()).map(|_| PublishMode::Http(Box::new(poster.clone())));
                lanes.collect()
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

    /// Publishes what `lane` makes.
    ///
    /// # Errors
    /// If the server stops answering or refuses everything.
    pub(super) async fn publish(self, lane: Lane, args: &Args) -> Result<LaneLog> {
        let (window, burst) = (args.window(), args.mode == Mode::Burst);
        match self {
            PublishMode::Unary(client) => publish::unary(client, lane).await,
            PublishMode::Batch(client) => publish::batch(client, lane, window).await,
            PublishMode::Stream(client) => publish::stream(client, lane, window).await,
            PublishMode::WebSocket(socket) => websocket::publish(socket, lane, window, burst).await,
            PublishMode::Http(poster) => poster.publish(lane).await,
            PublishMode::Floor(address) => floor_link::publish(&address, lane, window, burst).await,
        }
    }
}
