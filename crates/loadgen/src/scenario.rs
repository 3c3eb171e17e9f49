//! The phases of a run: set up, warm up, measure, drain, count.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Result};
use crate::outcome::{Moment, Traffic, delivered, published, taken};
use crate::payload::Template;
use crate::process::Process;
use crate::progress::Progress;
use crate::publish_mode::PublishMode;
use crate::publisher_task::{Pace, PublisherLog, PublisherTask};
use crate::report::{Idle, Memory, Report, Setup, real};
use crate::tally::Tally;
use crate::{Args, Mode, Transport, clock, streams, swarm};

/// How often counters are read while waiting.
const LOOK: Duration = Duration::from_millis(5);
/// Events that have not arrived after this long without any other are lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs the load that `args` describe.
pub(super) async fn run(args: &Args) -> Result<Report> {
    let plan = args.swarm(&args.tokens())?;
    let progress = Arc::new(Progress::new(args.channels, args.filters));
    let mut run = Run {
        args,
        plan: &plan,
        process: args.pid.map(Process::new).transpose()?,
        progress: Arc::clone(&progress),
        report: Report {
            mode: match args.mode {
                Mode::Paced => "paced",
                Mode::Burst => "burst",
                Mode::Idle => "idle",
                Mode::Connect => "connect",
            },
            connections: args.connections,
            channels: args.channels,
            size: args.size,
            ..Report::default()
        },
    };
    let memory = run.rss()?;
    let before = run.moment()?;
    let threads = if args.connections == 0 {
        0
    } else {
        args.threads()
    };
    let subscribers = match args.transport {
        Transport::Ws => swarm::start(&plan, threads, &progress)?,
        Transport::Grpc => streams::start(&plan, &args.grpc, threads, &progress)?,
    };
    // Whatever happens, the threads end: they poll `stop`.
    let phases = run.phases(before, memory).await;
    progress.stop();
    let tally = collect(subscribers, &progress)?;
    run.complete(tally, phases?)
}

struct Run<'a> {
    args: &'a Args,
    plan: &'a swarm::Plan,
    process: Option<Process>,
    progress: Arc<Progress>,
    report: Report,
}

impl Run<'_> {
    async fn phases(&mut self, before: Moment, rss_before: Option<u64>) -> Result<Option<Traffic>> {
        self.set_up(before).await?;
        if self.args.connections > 0 && self.progress.ready() == 0 {
            // There is nothing to measure; `complete` says why.
            return Ok(None);
        }
        sleep(SETTLE).await;
        let rss_subscribed = self.rss()?;
        let traffic = match self.args.mode {
            Mode::Connect => None,
            Mode::Idle => {
                let start = self.moment()?;
                sleep(self.args.measured()).await;
                let end = self.moment()?;
                let elapsed = Duration::from_nanos(end.at - start.at).as_secs_f64();
                let mut cpu = end.cpu_each(&start, self.progress.ready());
                if let Some(cpu) = &mut cpu {
                    for value in [&mut cpu.total_us, &mut cpu.user_us, &mut cpu.system_us] {
                        *value /= elapsed;
                    }
                }
                self.report.idle = Some(Idle {
                    seconds: elapsed,
                    cpu,
                });
                None
            }
            Mode::Paced | Mode::Burst => Some(self.traffic().await?),
        };
        sleep(Duration::from_secs_f64(self.args.quiet)).await;
        if let (Some(before), Some(subscribed), Some(after)) =
            (rss_before, rss_subscribed, self.rss()?)
        {
            let connections = real(self.progress.ready().max(1));
            self.report.memory = Some(Memory {
                before,
                subscribed,
                after,
                per_connection: (real(subscribed) - real(before)) / connections,
                per_connection_after: (real(after) - real(before)) / connections,
            });
        }
        Ok(traffic)
    }

    async fn set_up(&mut self, before: Moment) -> Result<()> {
        let asked = u64::try_from(self.args.connections).unwrap_or(u64::MAX);
        let deadline = Instant::now() + Duration::from_secs_f64(self.args.setup_timeout);
        while self.progress.settled() < asked && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let after = self.moment()?;
        if asked == 0 {
            return Ok(());
        }
        let ready = self.progress.ready();
        let last = self.progress.last_ready().max(before.at + 1);
        let seconds = Duration::from_nanos(last - before.at).as_secs_f64();
        self.report.setup = Some(Setup {
            ready,
            failed: asked.saturating_sub(ready),
            seconds,
            per_second: real(ready) / seconds,
            latency_ms: super::histogram::Percentiles::default(),
            cpu: after.cpu_each(&before, ready),
        });
        Ok(())
    }

    async fn traffic(&mut self) -> Result<Traffic> {
        let mut tasks = self.start_lanes().await?;
        sleep(Duration::from_secs_f64(self.args.warmup)).await;
        let start = self.moment()?;
        self.progress.measure_from(start.at);
        // Publisher tasks end by themselves; a stuck call ends by its own timeout.
        let mut logs = Vec::new();
        let limit = Instant::now() + self.args.measured() + Duration::from_mins(1);
        while let Some(ended) = timeout_at(limit, tasks.join_next())
            .await
            .map_err(|_| Error::new("publishers did not end in time"))?
        {
            let (number, log) = ended.map_err(|error| Error::new(error.to_string()))?;
            logs.push((number, log?));
        }
        logs.sort_by_key(|(number, _)| *number);
        let logs: Vec<PublisherLog> = logs.into_iter().map(|(_, log)| log).collect();
        let published = self.moment()?;
        self.drain(&logs).await;
        Ok(Traffic {
            logs,
            start,
            published,
            end: self.moment()?,
        })
    }

    async fn start_lanes(&self) -> Result<JoinSet<(u32, Result<PublisherLog>)>> {
        let args = self.args;
        let template = Template::new(args.size)?;
        let lane_count = u32::try_from(args.tasks()).unwrap_or(1);
        let begin = clock::now() + clock::nanoseconds(Duration::from_millis(100));
        let spacing = Duration::from_secs_f64(1.0 / args.rate);
        let until = begin
            + clock::nanoseconds(Duration::from_secs_f64(args.warmup))
            + clock::nanoseconds(args.measured());
        let mut tasks = JoinSet::new();
        let mut number = 0;
        for publisher in 0..args.publishers {
            let token = self
                .plan
                .tokens
                .token(&format!("bench-publisher-{publisher}"))?;
            for way in PublishMode::open(args, self.plan, token).await? {
                let pace = if args.mode == Mode::Burst {
                    Pace::AsFastAsPossible {
                        max_lag: args.max_lag,
                    }
                } else {
                    Pace::Every {
                        interval: clock::nanoseconds(spacing * lane_count),
                        first: begin + clock::nanoseconds(spacing * number),
                    }
                };
                let progress = Arc::clone(&self.progress);
                let task = PublisherTask::new(
                    number,
                    args.channels,
                    pace,
                    until,
                    template.clone(),
                    progress,
                );
                let args = args.clone();
                tasks.spawn(async move { (number, way.publish(task, &args).await) });
                number += 1;
            }
        }
        Ok(tasks)
    }

    /// Waits until every connection has received its events, or no more arrive.
    async fn drain(&self, logs: &[PublisherLog]) {
        let due: u64 = (0..self.args.channels)
            .flat_map(|channel| {
                let ready = self.progress.ready_on(channel);
                ready.map(move |(filter, count)| taken(logs, channel, filter) * count)
            })
            .sum();
        let mut seen = self.progress.delivered();
        let mut patience = Instant::now() + PATIENCE;
        while seen < due && Instant::now() < patience {
            sleep(LOOK).await;
            let now = self.progress.delivered();
            if now > seen {
                seen = now;
                patience = Instant::now() + PATIENCE;
            }
        }
    }

    fn complete(mut self, mut tally: Tally, traffic: Option<Traffic>) -> Result<Report> {
        if let Some(setup) = &mut self.report.setup {
            setup.latency_ms = tally.setup.percentiles();
            if setup.ready == 0 {
                let why = tally.samples.first().map_or("no answer", String::as_str);
                return Err(Error::new(format!("no connection was subscribed: {why}")));
            }
        }
        if let Some(traffic) = traffic {
            for sample in traffic.logs.iter().filter_map(|log| log.sample.clone()) {
                tally.sample(sample);
            }
            self.report.publish = Some(published(&traffic));
            if self.args.connections > 0 {
                self.report.delivery = Some(delivered(&traffic, &tally));
            }
        }
        self.report.errors = tally.errors;
        self.report.closes = tally.closes;
        self.report.samples = tally.samples;
        Ok(self.report)
    }

    fn moment(&self) -> Result<Moment> {
        Ok(Moment {
            at: clock::now(),
            cpu: self.process.as_ref().map(Process::cpu).transpose()?,
            delivered: self.progress.delivered(),
            published: self.progress.published(),
        })
    }

    fn rss(&self) -> Result<Option<u64>> {
        self.process.as_ref().map(Process::rss).transpose()
    }
}

fn collect(threads: Vec<JoinHandle<Tally>>, progress: &Arc<Progress>) -> Result<Tally> {
    let mut tally = Tally::new(Arc::clone(progress));
    for thread in threads {
        let counted = thread
            .join()
            .map_err(|_| Error::new("a subscriber thread panicked"))?;
        tally.add(counted);
    }
    Ok(tally)
}
