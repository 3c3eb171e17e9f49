//! A run, from start to totals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;
use tidings::proto::GetHistoryRequest;
use tidings::proto::event_service_client::EventServiceClient;
use tokio::task::JoinSet;

use crate::book::{ChannelPosition, Finding};
use crate::client::Client;
use crate::clock::Clock;
use crate::disk::{SmallDisk, can_fail_syncs};
use crate::faults::Faults;
use crate::ledger::Number;
use crate::options::{Options, Store, channel_name};
use crate::publisher::Publisher;
use crate::server::{self, Server};
use crate::stream::{channel, signed};
use crate::subscriber::Subscriber;
use crate::world::World;
use crate::{cluster, schedule, stream};

/// How long all clients may take to reach their positions at the end.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How many channels each client subscribes to.
const CHANNELS_EACH: usize = 3;
/// The number of publishers that publish sequentially.
pub const PUBLISHERS: u32 = 8;

/// True if nothing was lost, repeated or reordered.
pub async fn run(options: Options) -> bool {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("seed {seed}: repeat with --seed {seed}");
    raise_file_limit();
    if options.store.is_engine() {
        return cluster::run(options, seed).await;
    }
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let disk = match options.store {
        Store::Disk => SmallDisk::new(),
        _ => None,
    };
    let syncs = options.store == Store::Disk && can_fail_syncs();
    let clock = Clock::new(directory.path());
    print_skipped(options.store, disk.is_some(), syncs);
    if clock.is_none() {
        println!("skipped: a clock that is set, as libfaketime is missing");
    }
    let store = disk
        .as_ref()
        .map_or_else(|| directory.path().join("store"), SmallDisk::store);
    let configuration = server::alone(options.store, &store);
    let server = Server::new(directory.path(), &configuration, &store, clock.clone());
    let plan = schedule::plan(seed, Duration::from_secs(options.seconds), options.store);

    let world = World::new(options).await;
    let burst = Publisher::new(&world, PUBLISHERS, rng.u64(..));
    let mut faults = Faults::new(&world, server, disk, syncs, clock, burst, rng.fork());
    faults.start().await;
    let mut subscribers = subscribe(&world, &mut rng);
    let publishers = publish(&world, &mut rng);
    let start = Instant::now();
    for (at, fault) in plan {
        tokio::time::sleep_until((start + at).into()).await;
        faults.happen(fault).await;
    }
    let lasts = start + Duration::from_secs(world.options.seconds);
    tokio::time::sleep_until(lasts.into()).await;
    faults.over().await;
    finish(&world, publishers, &mut rng, || faults.log()).await;
    subscribers.abort_all();
    faults.stop().await;
    faults.check_log();
    report(&world, seed, began.elapsed())
}

fn print_skipped(store: Store, disk: bool, syncs: bool) {
    if store == Store::Disk && !disk {
        println!("skipped: a full disk, as mounting a small one takes root");
    }
    if store == Store::Disk && !syncs {
        println!("skipped: syncs that fail, as strace is missing or may not trace");
    }
}

/// Each connection takes three descriptors here.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

pub fn subscribe(world: &Arc<World>, rng: &mut Rng) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let channels = world.options.channels();
    for n in 0..world.options.clients + world.options.streams {
        let mut all: Vec<usize> = (0..channels).collect();
        rng.shuffle(&mut all);
        all.truncate(CHANNELS_EACH);
        let seed = rng.u64(..);
        if n < world.options.clients {
            let subscriber = Subscriber::new(world, format!("client-{n}"), all);
            tasks.spawn(Client::new(world, subscriber, seed).run());
        } else {
            let subscriber = Subscriber::new(world, format!("stream-{n}"), all);
            tasks.spawn(stream::run(Arc::clone(world), subscriber, seed));
        }
    }
    tasks
}

pub fn publish(world: &Arc<World>, rng: &mut Rng) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let pause = Duration::from_secs(1) * PUBLISHERS / world.options.rate.max(1);
    for n in 0..PUBLISHERS {
        let publisher = Publisher::new(world, n, rng.u64(..));
        tasks.spawn(publisher.run(pause));
    }
    tasks
}

/// Once all faults are over: waits until everything is acknowledged and received, and checks the history.
pub async fn finish(
    world: &Arc<World>,
    publishers: JoinSet<()>,
    rng: &mut Rng,
    log: impl Fn() -> String,
) {
    world.enough.cancel();
    let mut last = Publisher::new(world, PUBLISHERS + 1, rng.u64(..));
    let ends = tokio::time::timeout(TIMEOUT, async {
        publishers.join_all().await;
        let mut ends = Vec::new();
        for channel in 0..world.options.channels() {
            ends.push(last.publish(channel, 10).await);
        }
        ends
    });
    let Ok(ends) = ends.await else {
        let why = format!("some events are never acknowledged:\n{}", log());
        return world.wrong("the publishers", why);
    };
    caught_up(world, &ends).await;
    for node in 0..world.nodes.len() {
        for (channel, end) in ends.iter().enumerate() {
            check_history(world, node, channel, end).await;
        }
    }
    for channel in 0..ends.len() {
        check_epochs(world, channel);
    }
}

async fn caught_up(world: &World, ends: &[ChannelPosition]) {
    let subscribers = world.subscribers.lock().unwrap().clone();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let behind = subscribers.iter().flat_map(|subscriber| {
            let behind = subscriber.behind(ends).into_iter();
            behind.map(|(channel, at)| (subscriber.name.clone(), channel, at))
        });
        let behind: Vec<_> = behind.collect();
        if behind.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for (name, channel, at) in behind {
                let end = &ends[channel];
                let lost = end
                    .offset
                    .saturating_sub(at.as_ref().map_or(0, |at| at.offset));
                let why = format!("stands at {at:?} of {}, not {end:?}", channel_name(channel));
                world.totals.found(&name, Finding::Lost(lost.max(1), why));
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn check_history(world: &World, node: usize, number: usize, end: &ChannelPosition) {
    let name = channel_name(number);
    let mut events =
        EventServiceClient::new(channel(world, node)).max_decoding_message_size(1 << 26);
    let mut history = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = GetHistoryRequest {
            channel: name.clone(),
            page_size: 1000,
            page_token,
            ..GetHistoryRequest::default()
        };
        let answer = events
            .get_history(signed(request, "backend", "service", 60))
            .await;
        let page = match answer {
            Ok(page) => page.into_inner(),
            Err(status) => return world.wrong(&name, format!("its history: {status}")),
        };
        for event in page.events {
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            let offset = event.position.map_or(0, |position| position.offset);
            history.push((offset, Number::from_data(data["n"].as_u64().unwrap())));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    history.sort_unstable();
    let (missing, wrong) = world
        .ledger
        .compare(number, &end.epoch, &history, PUBLISHERS);
    for event in missing {
        let why = format!("{event} was acknowledged and is not in history");
        world.totals.found(&name, Finding::Lost(1, why));
    }
    for number in world
        .ledger
        .missing(number, world.wipes.get(), &history)
        .into_iter()
        .filter(|_| world.options.store.is_engine())
    {
        let why = format!("{number:?} was acknowledged and is not in history");
        world.totals.found(&name, Finding::Lost(1, why));
    }
    for why in wrong {
        world.wrong(&name, why);
    }
    if u64::try_from(history.len()).unwrap() != end.offset {
        world.wrong(&name, format!("{} events up to {end:?}", history.len()));
    }
}

/// A channel has no more epochs than events that explain them.
fn check_epochs(world: &World, number: usize) {
    let epochs = u64::try_from(world.ledger.epochs(number)).unwrap();
    let explained = 1 + world.time_lines.get();
    let is_checked = match world.options.store {
        Store::Memory => false,
        // Its clients check the others.
        Store::Disk => explained == 1,
        Store::Nats | Store::Redis => true,
    };
    if is_checked && epochs > explained {
        let why = format!("{epochs} epochs, of which {explained} are explained");
        let finding = Finding::NewEpoch(why);
        world.totals.found(&channel_name(number), finding);
    }
}

pub fn report(world: &World, seed: u64, took: Duration) -> bool {
    let options = &world.options;
    let store = options.store.name();
    let run = json!({
        "seed": seed,
        "store": store,
        "seconds": took.as_secs(),
        "clients": options.clients,
        "streams": options.streams,
        "channels": options.channels(),
    });
    let report = world.totals.report(&run, world.ledger.events());
    if options.json {
        println!("{report}");
    } else {
        println!("by kind: {}", report["faults_by_kind"]);
        println!("closes: {}", report["closes"]);
        println!("milliseconds: {}", report["milliseconds"]);
    }
    let names = [
        "faults",
        "events",
        "acknowledged",
        "delivered",
        "connects",
        "recovered",
        "not_recovered",
        "told_dropped",
        "lost",
        "repeated",
        "reordered",
        "needless_epochs",
        "wrong",
        "unknown",
    ];
    let line = names.map(|name| format!("{name} {}", report[name]));
    println!(
        "seed {seed} {store} clients {} {}",
        options.clients + options.streams,
        line.join(" ")
    );
    world.totals.is_clean()
}
