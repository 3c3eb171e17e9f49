//! Several nodes on one engine. Clients go to any node, and one ledger covers all of them.

mod engine;
mod faults;
mod pipe;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

use crate::options::Options;
use crate::publisher::Publisher;
use crate::run::{PUBLISHERS, finish, publish, report, subscribe};
use crate::world::World;
use faults::Faults;

/// The publishers without idempotency keys.
const WITHOUT_KEYS: std::ops::Range<u32> = 100..104;

/// True if nothing was lost, repeated or reordered.
pub async fn run(options: Options, seed: u64) -> bool {
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let plan = schedule::plan(seed, options.store);
    let faulty = schedule::faulty_part(Duration::from_secs(options.seconds));

    let world = World::new(options).await;
    let burst = Publisher::new(&world, PUBLISHERS, rng.u64(..));
    let mut faults = Faults::new(&world, directory.path(), burst, rng.fork()).await;
    faults.start().await;
    let mut subscribers = subscribe(&world, &mut rng);
    let mut publishers = publish(&world, &mut rng);
    publish_without_keys(&world, &mut publishers, &mut rng);
    let start = Instant::now();
    for (pause, fault) in plan {
        tokio::time::sleep(pause).await;
        if start.elapsed() >= faulty {
            break;
        }
        faults.happen(fault).await;
    }
    faults.over().await;
    let lasts = start + Duration::from_secs(world.options.seconds);
    tokio::time::sleep_until(lasts.into()).await;
    finish(&world, publishers, &mut rng, || faults.log()).await;
    subscribers.abort_all();
    faults.stop().await;
    faults.check_log();
    let is_clean = report(&world, seed, began.elapsed());
    if !is_clean {
        let kept = directory.keep();
        println!("configurations and logs are kept in {}", kept.display());
    }
    is_clean
}

fn publish_without_keys(world: &Arc<World>, tasks: &mut JoinSet<()>, rng: &mut Rng) {
    let count = u32::try_from(WITHOUT_KEYS.len()).unwrap();
    let pause = Duration::from_secs(4) * count / world.options.rate.max(1);
    for number in WITHOUT_KEYS {
        let publisher = Publisher::new(world, number, rng.u64(..));
        tasks.spawn(publisher.run_without_keys(pause));
    }
}
