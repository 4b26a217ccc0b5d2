//! How many CPUs this process may use, and binding a thread to one.

use crate::io::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::path::Path;

/// How many cores suit this process: the CPUs it may run on, or fewer where a cgroup's quota
/// allows less (rounded up). At least 1.
pub fn default_count() -> usize {
    let cpus = allowed().len().max(1);
    quota(Path::new("/")).map_or(cpus, |quota| quota.clamp(1, cpus))
}

fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// One CPU per core, or none where the cores are not as many as the CPUs we may use.
pub(super) fn cpus_to_pin(count: usize) -> Vec<usize> {
    let cpus = allowed();
    if cpus.len() == count { cpus } else { Vec::new() }
}

/// Binds the calling thread to `cpu`.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The smallest CPU quota of the cgroups that this process is in, in whole CPUs, rounded up.
fn quota(root: &Path) -> Option<usize> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut quotas = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(kinds), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let folder = match kinds {
            "" => root.join("sys/fs/cgroup"),
            kinds if kinds.split(',').any(|kind| kind == "cpu") => {
                root.join("sys/fs/cgroup").join(kinds)
            }
            _ => continue,
        };
        // Inside a container the path may name what is not visible; the folder itself then is
        // the container's own group.
        let steps = Path::new(path.trim_start_matches('/')).ancestors();
        quotas.extend(steps.filter_map(|step| quota_in(&folder.join(step))));
    }
    quotas.into_iter().min()
}

fn quota_in(folder: &Path) -> Option<usize> {
    let read = |name| fs::read_to_string(folder.join(name)).ok();
    if let Some(both) = read("cpu.max") {
        let (quota, period) = both.trim().split_once(' ')?;
        return whole_cpus(quota, period);
    }
    whole_cpus(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

/// `max` and -1 mean no quota.
fn whole_cpus(quota_us: &str, period_us: &str) -> Option<usize> {
    let (quota, period) = (quota_us.parse::<u64>().ok()?, period_us.parse::<u64>().ok()?);
    (period > 0).then(|| usize::try_from(quota.div_ceil(period).max(1)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &str, files: &[(&str, &str)], expected: Option<usize>) {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", own);
        files.iter().for_each(|(path, text)| write(path, text));
        assert_eq!(quota(root.path()), expected, "{own:?} {files:?}");
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        check("0::/a/b\n", &[("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")], None);
        check("0::/a/b\n", &[("sys/fs/cgroup/a/cpu.max", "150000 100000\n")], Some(2));
        let both = [
            ("sys/fs/cgroup/a/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n"),
        ];
        check("0::/a/b\n", &both, Some(1));
        check("0::/not/visible\n", &[("sys/fs/cgroup/cpu.max", "200000 100000\n")], Some(2));
    }

    #[test]
    fn the_older_kind_of_cgroup_counts_too() {
        let files = [
            ("sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us", "300000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us", "100000\n"),
        ];
        check("4:memory:/d\n3:cpu,cpuacct:/d\n", &files, Some(3));
        let none = [
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        check("3:cpu:/\n", &none, None);
    }

    #[test]
    fn nonsense_is_no_quota() {
        check("", &[], None);
        check("0::/\n", &[("sys/fs/cgroup/cpu.max", "10 0\n")], None);
        check("0::/\nx\n", &[("sys/fs/cgroup/cpu.max", "what\n")], None);
    }

    #[test]
    fn this_machine_has_at_least_one() {
        assert!((1..=CpuSet::MAX_CPU).contains(&default_count()));
    }
}
