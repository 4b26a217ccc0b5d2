//! Writes a hundred routes while requests run: each must be live at once, none may disturb.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Findings, Options, Stage};
use crate::{
    Fault,
    admin::Admin,
    clients::{Load, Pace, Plan},
    collector::Depth,
    scene, stats,
};

const ROUTES: usize = 100;
const CONNECTIONS: usize = 64;
const LIVE_MS_MAX: f64 = 100.0;
/// How long a route may take before the experiment gives it up.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(options: &Options, driver: &str, findings: &mut Findings) -> Result<(), Fault> {
    let mut stage = Stage::open(options, driver, 2, Depth::Count)?;
    scene::plain(&mut stage.admin, stage.engine.upstream.addr()?)?;
    let request = scene::get("/load/", "");
    let plan = Plan {
        target: stage.server.proxy,
        connections: CONNECTIONS,
        pace: Pace::Closed,
        ask: Box::new(move |_, out| out.extend_from_slice(&request)),
        hear: None,
        want: None,
        tls: None,
    };
    let (admin, proxy) = (stage.admin, stage.server.proxy);
    let mut load = Load::new(&mut stage.engine, plan);
    load.run_for(Duration::from_millis(500))?;
    let writer = thread::spawn(move || write_routes(admin, proxy));
    while !writer.is_finished() {
        load.run_for(Duration::from_millis(20))?;
    }
    let written = writer.join().map_err(|_| "the writer of routes failed")??;
    load.run_for(Duration::from_millis(200))?;
    load.drain(Duration::from_secs(5))?;
    let score = load.score();
    let worst = written.live_ms.iter().copied().fold(0.0, f64::max);
    findings.judge(
        worst <= LIVE_MS_MAX,
        &format!(
            "{ROUTES} routes live {:.1} ms after the write began (median), {worst:.1} ms at worst",
            stats::median(&written.live_ms)
        ),
    );
    findings.judge(
        written.stale == 0,
        &format!("{} routes were unknown right after the Admin API's answer", written.stale),
    );
    findings.judge(
        score.failures() + score.refused == 0,
        &format!("{} of {} requests failed meanwhile", score.failures(), score.answers()),
    );
    Ok(())
}

#[derive(Default)]
struct Written {
    /// From the begin of a write to the first answer of the new route.
    live_ms: Vec<f64>,
    /// Routes that the first request after the write's answer did not find.
    stale: u64,
}

fn write_routes(mut admin: Admin, proxy: SocketAddr) -> Result<Written, Fault> {
    let mut client = Admin::new(proxy);
    let mut written = Written::default();
    for number in 0..ROUTES {
        let path = format!("/live-{number}");
        let begun = Instant::now();
        admin.must("POST", "/services/load/routes", &json!({"paths": [path]}))?;
        let mut tries = 0;
        while client.call("GET", &path, &Value::Null)?.0 != 200 {
            tries += 1;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{path} did not come to life").into());
            }
        }
        written.live_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        written.stale += u64::from(tries > 0);
    }
    Ok(written)
}
