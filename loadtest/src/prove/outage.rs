//! Lets the collector answer 503 for ten seconds, then stops the gateway in the middle of delivery.

use std::time::Duration;

use super::{
    Findings, Options, Stage,
    crash::{Heard, judge, plan, wait_until_delivered},
};
use crate::{
    Fault,
    clients::{Load, Pace},
    collector::Depth,
    scene,
};

const CONNECTIONS: usize = 32;
const RATE: f64 = 400.0;
const REFUSING_SECONDS: u64 = 10;

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 2, Depth::Book)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    scene::moesif(&mut stage.admin, "plain", &stage.collector.url())?;
    let heard = Heard::default();
    let plan = plan(&stage, CONNECTIONS, options.seed, &heard);
    let mut load = Load::new(&mut stage.engine, plan);
    stage.collector.refuse(true);
    load.set_pace(Pace::Rate(RATE));
    load.run_for(Duration::from_secs(REFUSING_SECONDS))?;
    stage.collector.refuse(false);
    load.run_for(Duration::from_secs(2))?;
    findings.judge(load.score().failures() == 0, "no request failed while the collector refused");
    load.drain(Duration::from_secs(5))?;
    let stopped = stage.server.stop();
    findings.judge(stopped, "SIGTERM ended the gateway by itself");
    stage.server.restart()?;
    wait_until_delivered(&stage.server, &stage.collector)?;
    let refused = stage.collector.books().refused;
    findings.judge(refused > 0, &format!("{refused} batches were refused with 503"));
    judge(&heard.borrow(), &stage.collector, findings);
    Ok(())
}
