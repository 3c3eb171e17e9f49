//! `tidings webhooks`.

use super::client::Target;
use super::failure::Failure;
use super::json;
use super::output::{Output, printable};
use crate::api::webhooks::Resent;
use crate::proto::{ListWebhooksRequest, ResendWebhooksRequest, Webhook};

/// What to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Queue dead letters again, and try failing webhooks at once
    #[arg(long)]
    resend: bool,
    /// Only of the webhook with this address, as the list shows it
    #[arg(long, value_name = "URL", requires = "resend")]
    url: Option<String>,
}

const HEADINGS: [&str; 9] = [
    "URL",
    "STATE",
    "QUEUED",
    "LAG",
    "DELIVERED",
    "FAILURES",
    "DEAD LETTERS",
    "DROPPED",
    "LAST ERROR",
];

/// Prints how each webhook is doing, or resends dead letters and prints how many.
pub(super) async fn run(args: Args, target: &Target, output: &mut Output) -> Result<(), Failure> {
    let client = target.connect().await?;
    if args.resend {
        let url = args.url.unwrap_or_default();
        let asked = client.request(ResendWebhooksRequest { url }).await?;
        let answer = client.connections().resend_webhooks(asked).await?;
        let resent = answer.into_inner().resent;
        if output.is_json() {
            return output.object(&Resent { resent });
        }
        let plural = if resent == 1 { "" } else { "s" };
        return output.line(&format!("{resent} event{plural} queued again"));
    }
    let asked = client.request(ListWebhooksRequest {}).await?;
    let answer = client.connections().list_webhooks(asked).await?;
    let webhooks = answer.into_inner().webhooks;
    if output.is_json() {
        return webhooks
            .iter()
            .try_for_each(|webhook| output.object(&json::webhook(webhook)));
    }
    let rows: Vec<Vec<String>> = webhooks.iter().map(row).collect();
    output.table(&HEADINGS, &rows)
}

fn row(webhook: &Webhook) -> Vec<String> {
    vec![
        webhook.url.clone(),
        webhook.state.clone(),
        webhook.queued.to_string(),
        format!("{:.1}s", json::webhook(webhook).lag_seconds),
        webhook.delivered.to_string(),
        webhook.failures.to_string(),
        webhook.dead_letters.to_string(),
        webhook.dropped.to_string(),
        printable(&webhook.last_error),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_under_every_heading() {
        assert_eq!(row(&Webhook::default()).len(), HEADINGS.len());
    }
}
