//! What the threads of a process used, and which CPU they may use.
//!
//! Times come from `/proc/<pid>/task/<tid>/schedstat`: nanoseconds on a CPU, kernel work included.
//! The share outside the kernel comes from `stat` beside it, which counts in ticks.

use std::{fs, io, process::Command};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// CPU time used so far, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// By the threads that carry requests.
    pub road_ns: u64,
    /// The part of it outside the kernel, in steps of ten milliseconds.
    pub road_user_ns: u64,
    /// By all threads of the processes.
    pub whole_ns: u64,
}

/// One thread of a watched process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub tid: i32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Nanoseconds on a CPU since it began.
    pub used_ns: u64,
    /// The part of it outside the kernel.
    pub user_ns: u64,
}

/// Lets a thread go before all others of its CPU, at once and always, or no longer; those that it
/// starts do not. For measuring at a fixed rate: what else runs on these CPUs (exporter and
/// collector beside the load, the machine's own services beside the road) has CPUs of its own
/// elsewhere, and how long load and road wait for it says nothing of the gateway. A thread that
/// never rests must not: the kernel would hold it up for a twentieth of the time.
///
/// Tells whether it was granted; only root may ask, and `chrt` (util-linux) does it.
pub fn go_first(tid: u32, first: bool) -> bool {
    let class: &[&str] = if first { &["-R", "-f", "-p", "10"] } else { &["-o", "-p", "0"] };
    let told = Command::new("chrt").args(class).arg(tid.to_string()).output();
    told.is_ok_and(|told| told.status.success())
}

/// What `/proc` calls a tick.
const TICK_NS: u64 = 10_000_000;

/// The threads of a process. One that ends meanwhile is left out.
///
/// # Errors
/// The process is gone.
pub fn threads(pid: u32) -> io::Result<Vec<Thread>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = entry?.path();
        let tid = folder.file_name().and_then(|name| name.to_str()).and_then(|n| n.parse().ok());
        let name = fs::read_to_string(folder.join("comm"));
        let times = fs::read_to_string(folder.join("schedstat"));
        if let (Some(tid), Ok(name), Ok(times)) = (tid, name, times) {
            let used_ns = times.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let ticks = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            let user_ns = user_ticks(&ticks).unwrap_or(0) * TICK_NS;
            found.push(Thread { tid, name: name.trim().to_owned(), used_ns, user_ns });
        }
    }
    Ok(found)
}

/// Field 14 of a `stat` line; the name in parentheses before it may hold anything.
fn user_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(11)?.parse().ok()
}

/// Whether a thread carries requests: by its name, or as a kernel worker of its io_uring.
pub fn is_road(name: &str, prefixes: &[&str]) -> bool {
    name.starts_with("iou-") || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// What the processes `pids` used so far; road threads are those whose names have a prefix.
///
/// A thread that ended is not counted any more: sample long-lived threads.
pub fn usage(pids: &[u32], prefixes: &[&str]) -> Usage {
    let mut usage = Usage::default();
    for thread in pids.iter().flat_map(|pid| threads(*pid).unwrap_or_default()) {
        usage.whole_ns += thread.used_ns;
        if is_road(&thread.name, prefixes) {
            usage.road_ns += thread.used_ns;
            usage.road_user_ns += thread.user_ns;
        }
    }
    usage
}

impl Usage {
    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            road_ns: self.road_ns.saturating_sub(before.road_ns),
            road_user_ns: self.road_user_ns.saturating_sub(before.road_user_ns),
            whole_ns: self.whole_ns.saturating_sub(before.whole_ns),
        }
    }
}

/// The CPUs that this thread may use.
///
/// # Errors
/// The kernel's.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Keeps a thread on some CPUs; `None` is this thread, and what it starts inherits them.
///
/// # Errors
/// The kernel's: no such thread, none of the CPUs exists.
pub fn pin(tid: Option<i32>, cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    let tid = match tid {
        Some(tid) => Some(Pid::from_raw(tid).ok_or(io::ErrorKind::NotFound)?),
        None => None,
    };
    Ok(sched_setaffinity(tid, &set)?)
}

/// One field of `/proc/<pid>/status` or `/proc/<pid>/smaps_rollup` in KiB: `VmRSS`, `Pss_Anon`.
///
/// # Errors
/// The process is gone, or the kernel does not tell.
pub fn memory_kib(pid: u32, file: &str, field: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no {field} in {file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_seen_under_its_name() {
        let pid = std::process::id();
        let busy = std::thread::Builder::new().name("road-9".into());
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let worker = busy
            .spawn(move || {
                let begun = std::time::Instant::now();
                while begun.elapsed().as_millis() < 50 {
                    std::hint::spin_loop();
                }
                let _ = stopped.recv();
            })
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let usage = usage(&[pid], &["road-"]);
        drop(stop);
        worker.join().unwrap();
        assert!(usage.road_ns > 1_000_000, "{usage:?}");
        assert!(usage.whole_ns >= usage.road_ns, "{usage:?}");
    }

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 42 43 0 0";
        assert_eq!(user_ticks(stat), Some(42));
        assert_eq!(user_ticks("7"), None);
    }

    #[test]
    fn memory_is_read() {
        assert!(memory_kib(std::process::id(), "status", "VmRSS").unwrap() > 100);
    }
}
