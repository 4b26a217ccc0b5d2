//! The program h2load (Debian: nghttp2-client) as the client of a row.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
};

use super::rows::{H2_CONNECTIONS, H2_STREAMS};
use crate::{Fault, engine::Engine, servers::find_program};

/// How long it may take to end behind its time.
const LATE_MS_MAX: u64 = 5_000;

/// A running h2load.
pub(super) struct H2load(Child);

impl H2load {
    /// Starts it for so many milliseconds; it inherits the CPUs of this thread.
    ///
    /// # Errors
    /// It is not installed.
    pub(super) fn start(url: &str, ms: u64) -> Result<Self, Fault> {
        let child = Command::new(find_program("h2load")?)
            .args(["-c", &H2_CONNECTIONS.to_string(), "-m", &H2_STREAMS.to_string()])
            .args(["-D", &format!("{ms}ms"), url])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// Serves the upstream until it has ended; gives how many of its requests failed.
    ///
    /// # Errors
    /// It does not end, or says nothing of requests.
    pub(super) fn finish(mut self, engine: &mut Engine) -> Result<u64, Fault> {
        let until = engine.now_ns() + LATE_MS_MAX * 1_000_000;
        while self.0.try_wait()?.is_none() && engine.now_ns() < until {
            engine.serve_for(5)?;
        }
        let mut words = String::new();
        if let (Some(mut out), Some(_)) = (self.0.stdout.take(), self.0.try_wait()?) {
            out.read_to_string(&mut words)?;
        }
        failures(&words).ok_or_else(|| format!("h2load did not end well: {words}").into())
    }
}

impl Drop for H2load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Requests that got no answer, or another than 200.
fn failures(words: &str) -> Option<u64> {
    let line = |name: &str| words.lines().find_map(|line| line.strip_prefix(name));
    let count = |line: &str, name: &str| {
        let item = line.split(',').find_map(|item| item.trim().strip_suffix(name))?;
        item.trim().parse::<u64>().ok()
    };
    let requests = line("requests:")?;
    let statuses = line("status codes:")?;
    let unanswered = count(requests, "errored")? + count(requests, "timeout")?;
    Some(unanswered + count(statuses, "3xx")? + count(statuses, "4xx")? + count(statuses, "5xx")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_read() {
        let words = "finished in 1.00s, 2 req/s\n\
            requests: 10 total, 10 started, 9 done, 8 succeeded, 1 failed, 1 errored, 0 timeout\n\
            status codes: 8 2xx, 0 3xx, 1 4xx, 2 5xx\n";
        assert_eq!(failures(words), Some(4));
        assert_eq!(failures("requests: none"), None);
    }
}
